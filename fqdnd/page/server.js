// What the daemon is asked: single answers, answers again and again, and flows as they come.

const RETRY = 3000;

// One answer. An answer that is none is an error with the daemon's own words.
export async function get(path, parameters = {}) {
  const response = await fetch(url(path, parameters));
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.message ?? `the daemon answered ${response.status}`);
  return body;
}

// Answers, one every `pause` ms while somebody looks; gives what stops it.
export function poll(pause, path, parameters, show, fail) {
  let timer;
  let stopped = false;
  const ask = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        const body = await get(path, parameters());
        if (!stopped) show(body);
      } catch (error) {
        if (!stopped) fail(unreachable(error));
      }
    }
    if (!stopped) {
      clearTimeout(timer);
      timer = setTimeout(ask, pause);
    }
  };
  const look = () => document.hidden || ask();
  document.addEventListener("visibilitychange", look);
  ask();
  return {
    now: ask,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    },
  };
}

// Flows that one of Hubble's filters selects, the last of the past first. It begins anew after the
// daemon was away: `begin` says so.
export function follow(filters, last, { begin, show, fail }) {
  const parameters = { last };
  if (filters.length > 0) parameters.allow = JSON.stringify(filters);
  const target = url("flows", parameters);
  let source;
  let timer;
  const open = () => {
    source = new EventSource(target);
    source.onopen = () => begin();
    source.onmessage = (event) => show(JSON.parse(event.data));
    source.onerror = async () => {
      // Else it tries again by itself.
      if (source.readyState !== EventSource.CLOSED) return fail(unreachable());
      fail(new Error(await refusal(target)));
      timer = setTimeout(open, RETRY);
    };
  };
  open();
  return { stop() { clearTimeout(timer); source.close(); } };
}

// Why a stream was refused, which its events do not tell.
async function refusal(target) {
  const abort = new AbortController();
  try {
    const response = await fetch(target, { signal: abort.signal });
    return response.ok ? "the stream ended" : (await response.json()).message;
  } catch {
    return unreachable().message;
  } finally {
    abort.abort();
  }
}

function url(path, parameters) {
  const query = new URLSearchParams(parameters).toString();
  return `/api/${path}${query && "?"}${query}`;
}

function unreachable(error) {
  return error instanceof Error && !(error instanceof TypeError)
    ? error
    : new Error("the daemon does not answer; what it enforced stays enforced");
}
