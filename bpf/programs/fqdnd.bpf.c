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
#include "established.h"
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
static __noinline int judge_later_fragment(const struct context *context)
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
	return is_redirect(entry->verdict) ? FRAGMENT_TO_PROXY : PASSED;
}

static __noinline int record_fragment(const struct context *context, __u32 verdict)
{
	struct fragment_entry entry = { .seen_ns = context->now, .verdict = verdict };
	struct fragment key;

	key_fragment(context, &key);
	return bpf_map_update_elem(&fragments, &key, &entry, BPF_ANY);
}

/* Sends a packet to its proxy, or past it where it cannot go there and default deny is audited. */
static __always_inline int send_to_proxy(struct __sk_buff *skb, struct context *context,
					 __u32 verdict)
{
	int reason = FRAGMENT_TO_PROXY;

	/* Reassembly would lose the socket, and the query reach whoever listens on the node. */
	if (!context->packet.more_fragments)
		reason = redirect(skb, context, verdict);
	if (!reason)
		return PASSED;
	reason = unless_audited(context, reason);
	context->direct = !reason;
	return reason;
}

/* The verdict that was carried out. */
static __always_inline __u32 acted_on(const struct context *context, __u32 verdict)
{
	return context->direct ? VERDICT_ALLOW : verdict;
}

/* Carries a verdict out that lets the packet go. */
static __always_inline int act(struct __sk_buff *skb, struct context *context, __u32 verdict)
{
	int reason = is_redirect(verdict) ? send_to_proxy(skb, context, verdict) : PASSED;

	if (context->packet.more_fragments)
		record_fragment(context, acted_on(context, verdict));
	return reason;
}

/*
 * What belongs to nothing that is known passes where default deny is audited and no rule denies it
 * for its addresses.
 */
__noinline int judge_stray(struct __sk_buff *skb, struct context *context, __u32 reason)
{
	if (!context || !audits_default_deny(context) || !VERDICT_OF(judge(context, false)))
		return reason;
	context->audited = reason;
	tell_audited(skb, context);
	return PASSED;
}

static __always_inline __u32 judge_anew(struct context *context, bool living)
{
	return is_open(&context->endpoint) ? JUDGED(VERDICT_ALLOW) : judge(context, living);
}

/* What cannot be tracked is judged packet by packet. */
__noinline int judge_untracked(struct __sk_buff *skb, struct context *context)
{
	__u32 judgement;
	int reason;

	if (!context)
		return POLICY_DENIED;
	if (is_spoofed(context))
		return SPOOFED_SOURCE;
	judgement = judge_anew(context, false);
	reason = REASON_OF(judgement);
	if (!reason)
		reason = act(skb, context, VERDICT_OF(judgement));
	if (!reason)
		begin_flow(skb, context, acted_on(context, VERDICT_OF(judgement)), OUTBOUND);
	return reason;
}

/*
 * Whether a connection goes on past the proxy that must judge it from now on, because it began
 * without it and default deny is audited: the proxy could only reset it.
 */
static __always_inline bool stays_direct(struct __sk_buff *skb, struct context *context,
					 __u32 verdict)
{
	const struct packet *packet = &context->packet;

	return is_redirect(verdict) && packet->protocol == IPPROTO_TCP && !packet->opens &&
	       !is_connected_to_proxy(skb, context) &&
	       !unless_audited(context, PROXY_UNAVAILABLE);
}

/* Judges a packet whose flow has no valid verdict, and records what comes of it. */
static __always_inline int judge_flow(struct __sk_buff *skb, struct context *context,
				      const struct flow_key6 *key, struct flow *flow, bool living)
{
	__u32 bits = closing_bits(&context->packet, FLOW_FIN_LOCAL);
	__u32 judgement = judge_anew(context, living && passes_by_rule(flow));
	__u32 verdict = VERDICT_OF(judgement);
	int reason = REASON_OF(judgement);

	if (reason) {
		if (living)
			flow->bits = (flow->bits & ~FLOW_JUDGEMENT) | VERDICT_DENY;
		if (flow && verdict_of(flow) == VERDICT_DENY)
			touch(context, flow, 0);
		return reason;
	}
	if (living)
		bits |= flow->bits & ~FLOW_JUDGEMENT;
	else
		forget_inbound(context, key);
	/* Its server knows it from the proxy alone, which it stays with to its end. */
	if (living && verdict == VERDICT_ALLOW && verdict_of(flow) == VERDICT_PROXY)
		verdict = VERDICT_PROXY;
	if (stays_direct(skb, context, verdict))
		verdict = VERDICT_ALLOW;
	context->again = living && (flow->bits & FLOW_JUDGEMENT) != flow_judgement(context, verdict);
	if (!record(context, OUTBOUND, key, bits | flow_judgement(context, verdict), flow) &&
	    !is_open(&context->endpoint)) {
		reason = unless_audited(context, FLOW_TABLE);
		if (reason)
			return reason;
	}
	reason = act(skb, context, verdict);
	if (reason)
		return reason;
	verdict = acted_on(context, verdict);
	/* A connection stays as it began; datagrams go to the proxy as soon as there is one. */
	if (context->direct && context->packet.protocol == IPPROTO_TCP)
		record(context, OUTBOUND, key, bits | flow_judgement(context, verdict), true);
	if (!living || context->again)
		begin_flow(skb, context, verdict, OUTBOUND);
	else if (context->direct)
		tell_audited(skb, context);
	return PASSED;
}

/*
 * A flow's entry of the present generation also says that its source is legal: it was when the
 * entry was written, and taking a source back begins another generation. So the source is looked
 * up only where there is no such entry.
 */
__noinline int judge_tracked(struct __sk_buff *skb, struct context *context)
{
	struct flow *flow, *inbound = NULL;
	const struct packet *packet;
	struct flow_key6 key;
	__u32 closing;
	bool living;
	int reason;

	if (!context)
		return POLICY_DENIED;
	packet = &context->packet;
	closing = closing_bits(packet, FLOW_FIN_LOCAL);
	key_of(packet, true, &key);
	flow = context->first ? NULL : find_flow(context, OUTBOUND, &key);
	living = flow && is_live(context, flow) && verdict_of(flow) != VERDICT_DENY;
	/* A new connection on an old one's ports is a new flow, whatever the old one had. */
	if (packet->opens && is_connected(packet->protocol))
		living = false;
	if (living && flow->generation == context->endpoint.generation) {
		touch(context, flow, closing);
		reason = act(skb, context, verdict_of(flow));
		if (context->direct)
			tell_audited(skb, context);
		return reason;
	}
	if (!living && !packet->opens)
		inbound = find_inbound(context, &key);
	if (!inbound || inbound->generation != context->endpoint.generation) {
		if (is_spoofed(context))
			return SPOOFED_SOURCE;
		if (!inbound)
			return judge_flow(skb, context, &key, flow, living);
		inbound->generation = context->endpoint.generation;
	}
	touch(context, inbound, closing | FLOW_REPLIED);
	return act(skb, context, VERDICT_ALLOW);
}

/* Decides what only a link has; CONTROL_NONE means that the packet is to be judged as data. */
static __always_inline int judge_control(struct __sk_buff *skb, struct context *context,
					 enum control *kind)
{
	const struct packet *packet = &context->packet;
	bool legal = !is_spoofed(context);
	bool open = is_open(&context->endpoint);
	int reason;

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
	if (*kind == CONTROL_ERROR) {
		reason = judge_error(skb, context);
		return reason ? judge_stray(skb, context, reason) : PASSED;
	}
	*kind = CONTROL_NONE;
	return PASSED;
}

/* Reads a frame as far as it can be. What is wrong with its transport header is MALFORMED too. */
__noinline int read_frame(struct __sk_buff *skb, struct context *context)
{
	enum frame frame;
	int reason;

	if (!context)
		return MALFORMED;
	reason = parse_frame(skb, &context->packet, &frame);
	if (reason)
		return reason;
	context->frame = frame;
	if (frame != FRAME_IP || context->packet.fragment_offset)
		return PASSED;
	return parse_transport(skb, &context->packet);
}

/* Judges what was read: PASSED with an action, or a reason. */
static __always_inline int judge_packet(struct __sk_buff *skb, struct context *context)
{
	struct packet *packet = &context->packet;
	enum control kind;
	int reason;

	if (packet->fragment_offset) {
		if (is_spoofed(context))
			return SPOOFED_SOURCE;
		reason = judge_later_fragment(context);
		return reason == FRAGMENT_UNKNOWN ? judge_stray(skb, context, reason) : reason;
	}
	kind = control_of(packet);
	if (kind != CONTROL_NONE) {
		reason = judge_control(skb, context, &kind);
		if (reason || kind != CONTROL_NONE)
			return reason;
	}
	return packet->tracked ? judge_tracked(skb, context) : judge_untracked(skb, context);
}

static __always_inline int judge_frame(struct __sk_buff *skb, struct context *context)
{
	int reason = read_frame(skb, context);

	/* Whose addresses are not its own is told so, whatever else is wrong with it. */
	if (reason && context->frame == FRAME_IP && is_spoofed(context))
		return SPOOFED_SOURCE;
	if (reason == UNSUPPORTED_HEADER && is_open(&context->endpoint))
		return is_spoofed(context) ? SPOOFED_SOURCE : PASSED;
	if (reason)
		return reason;
	switch (context->frame) {
	case FRAME_ARP:
		return PASSED;
	case FRAME_IP:
		return judge_packet(skb, context);
	default:
		return is_open(&context->endpoint) ? PASSED : UNSUPPORTED_ETHERTYPE;
	}
}

/* Begins the long way; false if the interface is no endpoint's. */
static __always_inline bool begin(struct __sk_buff *skb, struct context *context, bool first)
{
	__builtin_memset(context, 0, sizeof(*context));
	context->first = first;
	context->now = bpf_ktime_get_boot_ns(); /* 5.8 */
	context->action = TC_ACT_UNSPEC;
	return find_endpoint(skb->ifindex, &context->endpoint);
}

/* The long way of what an endpoint sends. */
__noinline int judge_sent(struct __sk_buff *skb, bool first)
{
	struct context context;
	int reason;

	if (!begin(skb, &context, first))
		reason = ENDPOINT_UNKNOWN;
	else if (is_closed(&context.endpoint))
		reason = context.endpoint.enforcement & 0xff;
	else
		reason = judge_frame(skb, &context);
	return reason ? drop(skb, &context, reason) : context.action;
}

/* tc ingress of the host's end of the veth: what the endpoint sends. */
SEC("classifier")
int from_endpoint(struct __sk_buff *skb)
{
	const struct settings *settings = find_settings();
	enum short_way way;

	if (!settings)
		return TC_ACT_SHOT;
	/* No mark of ours comes in from outside. */
	set_mark(skb, settings, 0);
	way = take_short_way(skb, settings, true);
	return way == GOES_ON ? TC_ACT_UNSPEC : judge_sent(skb, way == IS_FIRST);
}

/* Whether a packet may begin an inbound flow. */
static __always_inline bool begins_inbound(struct __sk_buff *skb, const struct context *context)
{
	const struct packet *packet = &context->packet;
	const struct settings *settings = find_settings();

	if (!settings || is_multicast(&packet->destination))
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

__noinline int record_inbound(struct __sk_buff *skb, struct context *context)
{
	const struct packet *packet;
	struct flow *flow = NULL;
	struct flow_key6 key;

	if (!context)
		return 0;
	packet = &context->packet;
	key_of(packet, false, &key);
	if (!context->first) {
		if (note_reply(context, find_flow(context, OUTBOUND, &key)))
			return 0;
		flow = find_flow(context, INBOUND, &key);
	}
	if (flow && is_live(context, flow) && !(packet->opens && is_over(flow))) {
		touch(context, flow, closing_bits(packet, FLOW_FIN_REMOTE));
		return 0;
	}
	if (begins_inbound(skb, context) && record(context, INBOUND, &key, VERDICT_ALLOW, flow))
		begin_flow(skb, context, VERDICT_ALLOW, INBOUND);
	return 0;
}

/* The long way of what reaches an endpoint. */
__noinline int note_received(struct __sk_buff *skb, bool first)
{
	struct context context;

	if (!begin(skb, &context, first) || is_closed(&context.endpoint))
		return 0;
	if (read_frame(skb, &context) || context.frame != FRAME_IP)
		return 0;
	if (context.packet.tracked)
		record_inbound(skb, &context);
	return 0;
}

/* tc egress of the host's end of the veth: what reaches the endpoint. Nothing is dropped here. */
SEC("classifier")
int to_endpoint(struct __sk_buff *skb)
{
	const struct settings *settings = find_settings();
	enum short_way way = settings ? take_short_way(skb, settings, false) : GOES_ON;

	if (way != GOES_ON)
		note_received(skb, way == IS_FIRST);
	return TC_ACT_UNSPEC;
}

/* tc ingress of a bridge: packets for the proxy that `from_endpoint` sent here. */
SEC("classifier")
int bridge_ingress(struct __sk_buff *skb)
{
	const struct settings *settings = find_settings();
	struct context context;
	__u32 verdict;
	int reason;

	verdict = settings ? verdict_of_mark(settings, skb->mark & settings->mark_mask)
			   : VERDICT_NONE;
	if (!settings || !is_redirect(verdict))
		return TC_ACT_UNSPEC;
	begin(skb, &context, false);
	reason = read_frame(skb, &context);
	if (!reason)
		reason = assign(skb, settings, &context.packet, verdict);
	/* Its destination on the wire is the next hop; the host must take it for its own. */
	if (!reason && bpf_skb_change_type(skb, 0 /* PACKET_HOST */))
		reason = PROXY_UNAVAILABLE;
	return reason ? drop(skb, &context, reason) : TC_ACT_UNSPEC;
}
