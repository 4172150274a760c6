/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What is told of packets: every drop and every flow's beginning is counted exactly, and becomes
 * an event within the endpoint's budget for its kind. What the budget or the ring has no room for
 * is counted too. Every drop leaves through `drop`, with one reason. What passes only because a
 * policy is audited is told as that, with the reason.
 */
#pragma once

#include "context.h"

#include <linux/pkt_cls.h>

/*
 * The endpoint's token bucket of a kind, kept as the moment at which it will be full again: an
 * event takes one interval, and may run ahead of now by the burst. Processors that take at the very
 * same time may take one for all: an event more does no harm, and a locked write would cost every
 * flow's first packet more than all else here.
 */
static __always_inline bool take_event(const struct context *context,
				       const struct settings *settings, enum event_kind kind)
{
	__u64 interval = settings->event_interval_ns[kind];
	__u64 most = context->now + interval * settings->event_burst[kind];
	__u32 slot = context->endpoint.slot;
	struct budget *budget = bpf_map_lookup_elem(&budgets, &slot);
	__u64 *full_at, seen, next;

	if (!budget)
		return false;
	full_at = &budget->full_at_ns[kind];
	seen = *(volatile __u64 *)full_at;
	next = (seen > context->now ? seen : context->now) + interval;
	if (next > most)
		return false;
	*(volatile __u64 *)full_at = next;
	return true;
}

/* What happened to a packet. */
struct fate {
	enum outcome outcome;
	enum reason reason;
	enum direction direction;
};

static __always_inline __u32 table_of(const struct endpoint *endpoint)
{
	return endpoint->enforcement < ENFORCEMENT_OPEN ? endpoint->enforcement : 0;
}

static __always_inline __u8 event_flags(const struct context *context)
{
	const struct packet *packet = &context->packet;

	return (packet->end ? EVENT_PARSED : 0) |
	       (packet->transport_read ? EVENT_TRANSPORT : 0) |
	       (context->frontend ? EVENT_FRONTEND : 0) | (context->again ? EVENT_AGAIN : 0);
}

static __always_inline bool send_event(struct __sk_buff *skb, const struct context *context,
				       const struct fate *fate)
{
	const struct packet *packet = &context->packet;
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return false;
	event->time_ns = context->now;
	event->endpoint = context->endpoint.endpoint;
	event->interface = skb->ifindex;
	event->length = skb->len;
	event->identity = context->identity;
	event->table = table_of(&context->endpoint);
	event->source_port_be = packet->source_port;
	event->destination_port_be = is_icmp(packet) ? 0 : packet->destination_port;
	event->source = packet->source;
	event->destination = packet->destination;
	event->protocol = packet->protocol;
	event->outcome = fate->outcome;
	event->reason = fate->reason;
	event->direction = fate->direction;
	event->flags = event_flags(context);
	event->tcp_flags = packet->tcp_flags;
	event->icmp_type = packet->icmp_type;
	event->icmp_code = packet->icmp_code;
	/*
	 * Nobody is woken: the daemon looks in from time to time. A wake-up would cost the packet
	 * an interrupt to its own processor, and most of all where events are rare.
	 */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return true;
}

static __always_inline void tell(struct __sk_buff *skb, const struct context *context,
				 struct counters *counts, enum event_kind kind,
				 const struct fate *fate)
{
	const struct settings *settings = find_settings();

	/* A kind without a burst is not asked for. */
	if (!settings || !settings->event_burst[kind])
		return;
	if (!take_event(context, settings, kind))
		__sync_fetch_and_add(&counts->events_suppressed[kind], 1);
	else if (!send_event(skb, context, fate))
		__sync_fetch_and_add(&counts->events_lost[kind], 1);
}

static __always_inline void count_flows(const struct context *context, struct counters *counts,
					enum direction direction)
{
	if (context->inserted)
		__sync_fetch_and_add(&counts->inserted[direction], 1);
	if (context->removed)
		__sync_fetch_and_add(&counts->removed[INBOUND], 1);
}

__noinline int drop(struct __sk_buff *skb, const struct context *context, __u32 reason)
{
	struct fate fate = { .outcome = OUTCOME_DROPPED, .reason = reason };
	struct counters *counts;

	if (!context)
		return TC_ACT_SHOT;
	counts = counters_of(context->endpoint.endpoint);
	if (!counts)
		return TC_ACT_SHOT;
	if (reason < DROP_REASONS)
		__sync_fetch_and_add(&counts->drops[reason], 1);
	count_flows(context, counts, OUTBOUND);
	tell(skb, context, counts, EVENT_DROP, &fate);
	return TC_ACT_SHOT;
}

static __always_inline void count_audit(const struct context *context, struct counters *counts,
					struct fate *fate)
{
	__u32 reason = context->audited;

	if (!reason || reason >= DROP_REASONS)
		return;
	fate->outcome = OUTCOME_AUDITED;
	fate->reason = reason;
	__sync_fetch_and_add(&counts->audits[reason], 1);
}

/* Tells of an audited packet that begins no flow. */
__noinline int tell_audited(struct __sk_buff *skb, const struct context *context)
{
	struct fate fate = { .outcome = OUTCOME_FORWARDED };
	struct counters *counts;

	if (!context)
		return 0;
	counts = counters_of(context->endpoint.endpoint);
	if (!counts)
		return 0;
	count_audit(context, counts, &fate);
	tell(skb, context, counts, EVENT_FLOW, &fate);
	return 0;
}

/* Tells of a packet that passes and begins a flow, or gives it a verdict that it had not. */
__noinline int begin_flow(struct __sk_buff *skb, const struct context *context, __u32 verdict,
			  __u32 direction)
{
	struct fate fate = { .outcome = OUTCOME_FORWARDED, .direction = direction };
	struct counters *counts;

	if (!context)
		return 0;
	counts = counters_of(context->endpoint.endpoint);
	if (!counts)
		return 0;
	direction = direction == INBOUND ? INBOUND : OUTBOUND;
	if (verdict == VERDICT_DNS) {
		fate.outcome = OUTCOME_REDIRECTED;
		__sync_fetch_and_add(&counts->redirected, 1);
	} else if (verdict == VERDICT_PROXY) {
		fate.outcome = OUTCOME_INSPECTED;
		__sync_fetch_and_add(&counts->inspected, 1);
	} else {
		__sync_fetch_and_add(&counts->begun[direction], 1);
	}
	count_audit(context, counts, &fate);
	count_flows(context, counts, direction);
	tell(skb, context, counts, EVENT_FLOW, &fate);
	return 0;
}
