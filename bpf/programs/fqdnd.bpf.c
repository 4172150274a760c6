// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * The datapath: what endpoints send is judged, what reaches them is recorded, so that replies
 * pass.
 *
 * A packet that may go on leaves with TC_ACT_UNSPEC, never with OK: a CNI's own programs run after
 * these. Programs are of type sched_cls, for TCX (6.6) and clsact (4.5) alike.
 */
#include "context.h"
#include "control.h"
#include "events.h"
#include "flow.h"
#include "redirect.h"
#include "verdict.h"

char LICENSE[] SEC("license") = "GPL";

#define FRAGMENT_LIFE_NS (30 * SECOND_NS)

static __always_inline void key_fragment(const struct context *context, struct fragment *key)
{
	const struct packet *packet = &context->packet;

	__builtin_memset(key, 0, sizeof(*key));
	key->endpoint = context->endpoint.endpoint;
	key->identification = packet->identification;
	key->source = packet->source;
	key->destination = packet->destination;
	/* IPv6 names the protocol in the first fragment only, behind what headers may follow. */
	if (!packet->ipv6)
		key->protocol = packet->protocol;
}

/* What was said of the first fragment holds for the later ones. */
static __always_inline int judge_later_fragment(const struct context *context)
{
	struct fragment_entry *entry;
	struct fragment key;

	if (is_open(&context->endpoint))
		return PASSED;
	if (check_overlap(&context->packet))
		return MALFORMED;
	key_fragment(context, &key);
	entry = bpf_map_lookup_elem(&fragments, &key);
	if (!entry || context->now >= entry->seen_ns + FRAGMENT_LIFE_NS)
		return FRAGMENT_UNKNOWN;
	return entry->verdict == VERDICT_DNS ? FRAGMENT_TO_PROXY : PASSED;
}

static __always_inline void record_fragment(const struct context *context, __u32 verdict)
{
	struct fragment_entry entry = { .seen_ns = context->now, .verdict = verdict };
	struct fragment key;

	key_fragment(context, &key);
	bpf_map_update_elem(&fragments, &key, &entry, BPF_ANY);
}

/* Carries a verdict out that lets the packet go. */
static __always_inline int act(struct __sk_buff *skb, const struct context *context, __u32 verdict,
			       int *action)
{
	if (context->packet.more_fragments)
		record_fragment(context, verdict);
	if (verdict != VERDICT_DNS)
		return PASSED;
	/* Reassembly would lose the socket, and the query reach whoever listens on the node. */
	if (context->packet.more_fragments)
		return FRAGMENT_TO_PROXY;
	return redirect(skb, context, action);
}

/* What cannot be tracked is judged packet by packet. */
static __always_inline int judge_untracked(struct __sk_buff *skb, struct context *context,
					   int *action)
{
	__u32 verdict = VERDICT_ALLOW;
	int reason = PASSED;

	if (!is_open(&context->endpoint)) {
		verdict = VERDICT_NONE;
		reason = judge(context, false, &verdict);
	}
	if (!reason)
		reason = act(skb, context, verdict, action);
	if (!reason)
		begin_flow(skb, context, verdict, OUTBOUND, false);
	return reason;
}

/* Judges a packet whose flow has no valid verdict, and records what comes of it. */
static __always_inline int judge_flow(struct __sk_buff *skb, struct context *context,
				      void *outbound, const struct flow_key *key,
				      struct flow *flow, bool living, int *action)
{
	__u32 bits = closing_bits(&context->packet, FLOW_FIN_LOCAL);
	bool open = is_open(&context->endpoint);
	__u32 verdict = VERDICT_ALLOW;
	int reason = PASSED;
	bool again;

	if (!open) {
		reason = judge(context, living, &verdict);
		if (reason) {
			if (living)
				flow->bits = (flow->bits & ~FLOW_VERDICT) | VERDICT_DENY;
			if (flow && verdict_of(flow) == VERDICT_DENY)
				touch(context, flow, 0);
			return reason;
		}
	}
	if (living)
		bits |= flow->bits & ~FLOW_VERDICT;
	else
		forget_inbound(context, key);
	again = living && verdict_of(flow) != verdict;
	if (!record(context, outbound, key, bits | verdict, flow, OUTBOUND) && !open)
		return FLOW_TABLE;
	reason = act(skb, context, verdict, action);
	if (!reason && (!living || again))
		begin_flow(skb, context, verdict, OUTBOUND, again);
	return reason;
}

/*
 * A flow's entry of the present generation also says that its source is legal: it was when the
 * entry was written, and taking a source back begins another generation. So the source is looked
 * up only where there is no such entry.
 */
static __noinline int judge_tracked(struct __sk_buff *skb, struct context *context, int *action)
{
	const struct packet *packet = &context->packet;
	__u32 closing = closing_bits(packet, FLOW_FIN_LOCAL);
	void *outbound = outbound_flows(context);
	struct flow *flow = NULL, *inbound = NULL;
	struct flow_key key;
	bool living;

	key_outbound(packet, &key);
	if (outbound)
		flow = bpf_map_lookup_elem(outbound, &key);
	living = flow && is_live(context, flow) && verdict_of(flow) != VERDICT_DENY;
	/* A new connection on an old one's ports is a new flow, whatever the old one had. */
	if (packet->opens && is_connected(packet->protocol))
		living = false;
	if (living && flow->generation == context->endpoint.generation) {
		touch(context, flow, closing);
		return act(skb, context, verdict_of(flow), action);
	}
	if (!living && !packet->opens)
		inbound = find_inbound(context, &key);
	if (inbound && inbound->generation == context->endpoint.generation) {
		touch(context, inbound, closing | FLOW_REPLIED);
		return act(skb, context, VERDICT_ALLOW, action);
	}
	if (is_spoofed(context))
		return SPOOFED_SOURCE;
	if (inbound) {
		inbound->generation = context->endpoint.generation;
		touch(context, inbound, closing | FLOW_REPLIED);
		return act(skb, context, VERDICT_ALLOW, action);
	}
	if (!outbound)
		return is_open(&context->endpoint) ? PASSED : FLOW_TABLE;
	return judge_flow(skb, context, outbound, &key, flow, living, action);
}

/* Decides what only a link has; CONTROL_NONE means that the packet is to be judged as data. */
static __always_inline int judge_control(struct __sk_buff *skb, struct context *context,
					 enum control *kind)
{
	const struct packet *packet = &context->packet;
	bool legal = !is_spoofed(context);
	bool open = is_open(&context->endpoint);

	if (*kind == CONTROL_ROUTER && !open)
		return ROUTER_MESSAGE;
	if ((legal || is_link_source(packet)) &&
	    ((*kind == CONTROL_NEIGHBOUR && is_neighbourly(skb, context)) ||
	     (*kind == CONTROL_MULTICAST && is_report(packet))))
		return PASSED;
	if (!legal)
		return SPOOFED_SOURCE;
	if (open)
		return PASSED;
	if (*kind == CONTROL_ERROR)
		return judge_error(skb, context);
	*kind = CONTROL_NONE;
	return PASSED;
}

static __always_inline int judge_packet(struct __sk_buff *skb, struct context *context, int *action)
{
	struct packet *packet = &context->packet;
	enum control kind;
	int reason;

	if (packet->fragment_offset)
		return is_spoofed(context) ? SPOOFED_SOURCE : judge_later_fragment(context);
	reason = parse_transport(skb, packet);
	if (reason)
		return is_spoofed(context) ? SPOOFED_SOURCE : reason;
	kind = control_of(packet);
	if (kind != CONTROL_NONE) {
		reason = judge_control(skb, context, &kind);
		if (reason || kind != CONTROL_NONE)
			return reason;
	}
	if (packet->tracked)
		return judge_tracked(skb, context, action);
	return is_spoofed(context) ? SPOOFED_SOURCE : judge_untracked(skb, context, action);
}

/* The one way of a frame that an endpoint sends: PASSED with an action, or a reason. */
static __always_inline int judge_frame(struct __sk_buff *skb, struct context *context, int *action)
{
	enum frame frame;
	int reason;

	if (!find_endpoint(skb->ifindex, &context->endpoint))
		return ENDPOINT_UNKNOWN;
	if (is_closed(&context->endpoint))
		return context->endpoint.enforcement & 0xff;
	if (parse_plain(skb, &context->packet))
		return judge_tracked(skb, context, action);
	reason = parse_frame(skb, &context->packet, &frame);
	if (reason == UNSUPPORTED_HEADER && is_open(&context->endpoint))
		return is_spoofed(context) ? SPOOFED_SOURCE : PASSED;
	if (reason)
		return reason;
	switch (frame) {
	case FRAME_ARP:
		return PASSED;
	case FRAME_OTHER:
		return is_open(&context->endpoint) ? PASSED : UNSUPPORTED_ETHERTYPE;
	case FRAME_IP:
		return judge_packet(skb, context, action);
	}
	return MALFORMED;
}

static __always_inline void begin(struct context *context)
{
	__u32 zero = 0;

	context->settings = bpf_map_lookup_elem(&settings, &zero);
	context->now = bpf_ktime_get_boot_ns(); /* 5.8 */
}

/* tc ingress of the host's end of the veth: what the endpoint sends. */
SEC("classifier")
int from_endpoint(struct __sk_buff *skb)
{
	int action = TC_ACT_UNSPEC;
	struct context context = {};
	int reason;

	begin(&context);
	if (!context.settings)
		return drop(skb, &context, ENDPOINT_UNKNOWN);
	/* No mark of ours comes in from outside. */
	set_mark(skb, context.settings, 0);
	reason = judge_frame(skb, &context, &action);
	return reason ? drop(skb, &context, reason) : action;
}

/* Whether a packet may begin an inbound flow. */
static __always_inline bool begins_inbound(struct __sk_buff *skb, const struct context *context)
{
	const struct packet *packet = &context->packet;
	const struct settings *settings = context->settings;

	if (is_multicast(&packet->destination))
		return false;
	/* The proxy only answers: what it says late must not open the way to the server itself. */
	if (settings->mark_answer && (skb->mark & settings->mark_mask) == settings->mark_answer)
		return false;
	if (!packet->opens && packet->protocol != IPPROTO_UDP)
		return false;
	/* Answers from any other address would be spoofed; see `judge_tracked`. */
	return may_send_from(context, &packet->destination);
}

/* Notes a packet of an outbound flow; true if it is one, so that it begins nothing. */
static __always_inline bool note_reply(const struct context *context, struct flow *flow)
{
	const struct packet *packet = &context->packet;

	if (!flow || !is_live(context, flow))
		return false;
	if (verdict_of(flow) == VERDICT_DENY) {
		touch(context, flow, 0);
		return !packet->opens;
	}
	if (packet->opens && (is_icmp(packet) || is_over(flow)))
		return false;
	touch(context, flow, closing_bits(packet, FLOW_FIN_REMOTE) | FLOW_REPLIED);
	return true;
}

static __always_inline void record_inbound(struct __sk_buff *skb, struct context *context)
{
	const struct packet *packet = &context->packet;
	void *flows = outbound_flows(context);
	struct flow *flow = NULL;
	struct flow_key key;

	key_inbound(packet, &key);
	if (flows)
		flow = bpf_map_lookup_elem(flows, &key);
	if (note_reply(context, flow))
		return;
	flows = inbound_flows(context);
	if (!flows)
		return;
	flow = bpf_map_lookup_elem(flows, &key);
	if (flow && is_live(context, flow) && !(packet->opens && is_over(flow))) {
		touch(context, flow, closing_bits(packet, FLOW_FIN_REMOTE));
		return;
	}
	if (begins_inbound(skb, context) &&
	    record(context, flows, &key, VERDICT_ALLOW, flow, INBOUND))
		begin_flow(skb, context, VERDICT_ALLOW, INBOUND, false);
}

/* tc egress of the host's end of the veth: what reaches the endpoint. Nothing is dropped here. */
SEC("classifier")
int to_endpoint(struct __sk_buff *skb)
{
	struct context context = {};
	enum frame frame;

	begin(&context);
	if (!context.settings || !find_endpoint(skb->ifindex, &context.endpoint))
		return TC_ACT_UNSPEC;
	if (is_closed(&context.endpoint))
		return TC_ACT_UNSPEC;
	if (!parse_plain(skb, &context.packet)) {
		if (parse_frame(skb, &context.packet, &frame) || frame != FRAME_IP)
			return TC_ACT_UNSPEC;
		if (context.packet.fragment_offset || parse_transport(skb, &context.packet))
			return TC_ACT_UNSPEC;
	}
	if (context.packet.tracked)
		record_inbound(skb, &context);
	return TC_ACT_UNSPEC;
}

/* tc ingress of a bridge: packets for the proxy that `from_endpoint` sent here. */
SEC("classifier")
int bridge_ingress(struct __sk_buff *skb)
{
	struct context context = {};
	const struct settings *settings;
	enum frame frame;
	int reason;

	begin(&context);
	settings = context.settings;
	if (!settings || !settings->mark_redirect ||
	    (skb->mark & settings->mark_mask) != settings->mark_redirect)
		return TC_ACT_UNSPEC;
	reason = parse_frame(skb, &context.packet, &frame);
	if (!reason && frame == FRAME_IP)
		reason = parse_transport(skb, &context.packet);
	if (!reason)
		reason = assign(skb, settings, &context.packet);
	/* Its destination on the wire is the next hop; the host must take it for its own. */
	if (!reason && bpf_skb_change_type(skb, 0 /* PACKET_HOST */))
		reason = PROXY_UNAVAILABLE;
	return reason ? drop(skb, &context, reason) : TC_ACT_UNSPEC;
}
