// Where on the map everything stands. Nothing is drawn here.

const GAP = 14;
const LEAST = 18;
const EDGE_OF_PAGE = 8;
// What did not get through ends so far from where it was meant to go.
const SHORT = 22;
const OUTCOMES = ["allowed", "audited", "dropped", "failed"];
const ARRIVES = ["allowed", "audited"];

// Places the ends of edges in two columns, and ribbons between them, within a width.
export function place(edges, width) {
  const narrow = width < 700;
  const columns = narrow
    ? { left: EDGE_OF_PAGE, right: width - EDGE_OF_PAGE - 6, letters: Math.floor((width / 2 - 16) / 6.2), head: 18 }
    : { left: 240, right: width - 320, letters: 0, head: 0 };
  const ribbons = edges.flatMap((edge) => OUTCOMES
    .filter((outcome) => edge[outcome] > 0)
    .map((outcome) => ({ edge, outcome, width: thickness(edge[outcome]) })));
  const left = column(ribbons, (own) => own.edge.source, columns);
  left.forEach((node, at) => { node.rank = at; });
  const rank = new Map(left.map((node) => [node.id, node.rank]));
  const right = column(ribbons, (own) => own.edge.destination, columns);
  // Near those who talk to them, so that few ribbons cross.
  const pull = (node) => node.ribbons.reduce((sum, own) => sum + rank.get(id(own.edge.source)), 0) / node.ribbons.length;
  right.sort((a, b) => pull(a) - pull(b));

  const height = Math.max(stack(left, columns), stack(right, columns)) + GAP;
  center(left, height);
  center(right, height);
  for (const node of left) finish(node, columns.left, narrow, "left", columns);
  for (const node of right) finish(node, columns.right, narrow, "right", columns);
  const order = new Map(right.map((node, at) => [node.id, at]));
  for (const node of left) {
    node.ribbons.sort((a, b) => order.get(id(a.edge.destination)) - order.get(id(b.edge.destination)));
    attach(node, (own, y) => { own.start = { x: columns.left + 6, y }; });
  }
  for (const node of right) {
    node.ribbons.sort((a, b) => rank.get(id(a.edge.source)) - rank.get(id(b.edge.source)));
    attach(node, (own, y) => { own.end = { x: columns.right, y }; });
  }
  for (const own of ribbons) own.path = curve(own.start, own.end, ARRIVES.includes(own.outcome) ? 0 : SHORT);
  return { left, right, ribbons, height, narrow };
}

const id = (party) => `${party.kind} ${party.name}`;

// How thick a ribbon of so many flows is: ten times as many are a step more.
const thickness = (flows) => Math.min(24, 2.5 + 5 * Math.log10(flows));

function column(ribbons, party, columns) {
  const nodes = new Map();
  for (const ribbon of ribbons) {
    const own = party(ribbon);
    const node = nodes.get(id(own)) ?? { id: id(own), party: own, ribbons: [] };
    node.ribbons.push(ribbon);
    nodes.set(node.id, node);
  }
  return [...nodes.values()].map((node) => ({
    ...node,
    height: Math.max(columns.head ? 8 : LEAST, node.ribbons.reduce((sum, own) => sum + own.width + 1, 0)),
  }));
}

function stack(nodes, columns) {
  let y = GAP;
  for (const node of nodes) {
    node.y = y + columns.head;
    y = node.y + node.height + GAP;
  }
  return y;
}

function center(nodes, height) {
  const last = nodes.at(-1);
  const shift = last ? (height - (last.y + last.height + GAP)) / 2 : 0;
  for (const node of nodes) node.y += shift;
}

function finish(node, x, narrow, side, columns) {
  node.x = x;
  const inner = side === "left";
  node.label = narrow
    ? { x: inner ? x : x + 6, y: node.y - 5, anchor: inner ? "start" : "end", text: shortened(node.party.name, columns.letters) }
    : {
      x: inner ? x - 10 : x + 16, y: node.y + node.height / 2 + 4, anchor: inner ? "end" : "start",
      text: shortened(node.party.name, inner ? 28 : 37),
    };
}

function attach(node, set) {
  const sum = node.ribbons.reduce((all, own) => all + own.width + 1, -1);
  let y = node.y + (node.height - sum) / 2;
  for (const own of node.ribbons) {
    set(own, y + own.width / 2);
    y += own.width + 1;
  }
}

function curve(start, end, short) {
  const x = end.x - short;
  const middle = (start.x + x) / 2;
  return `M${start.x} ${start.y}C${middle} ${start.y} ${middle} ${end.y} ${x} ${end.y}`;
}

// The ends of a long name tell more than its middle.
function shortened(text, letters) {
  if (text.length <= letters) return text;
  const head = Math.floor((letters - 1) / 3);
  return `${text.slice(0, head)}…${text.slice(text.length - (letters - 1 - head))}`;
}
