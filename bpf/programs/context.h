/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What one run of a program knows, and how it refuses a packet: every drop leaves through `drop`,
 * with one reason, counted exactly; events are samples within the endpoint's budget.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#include <linux/pkt_cls.h>

struct context {
	const struct settings *settings;
	__u64 now;
	struct endpoint endpoint;
	__u32 identity;
	struct packet packet;
};

static __always_inline bool is_closed(const struct endpoint *endpoint)
{
	return endpoint->enforcement >= ENFORCEMENT_CLOSED;
}

static __always_inline bool is_open(const struct endpoint *endpoint)
{
	return endpoint->enforcement == ENFORCEMENT_OPEN;
}

/*
 * Copies the interface's endpoint. A hash element may be reused for another key while it is read;
 * its copy of the key, read last, tells.
 */
static __always_inline bool find_endpoint(__u32 interface, struct endpoint *copy)
{
	struct endpoint *found = bpf_map_lookup_elem(&endpoints, &interface);
	__u64 judged;

	if (!found)
		return false;
	judged = *(volatile __u64 *)&found->enforcement;
	copy->enforcement = (__u32)judged;
	copy->generation = judged >> 32;
	copy->endpoint = *(volatile __u32 *)&found->endpoint;
	copy->bridge = *(volatile __u32 *)&found->bridge;
	copy->interface = *(volatile __u32 *)&found->interface;
	return copy->interface == interface;
}

static __always_inline struct counters *counters_of(__u32 endpoint)
{
	return bpf_map_lookup_elem(&counters, &endpoint);
}

/*
 * The endpoint's token bucket, kept as the moment at which it will be full again: a packet takes
 * one interval, and may run ahead of now by the burst.
 */
static __always_inline bool take_event(const struct context *context)
{
	__u64 interval = context->settings->event_interval_ns;
	__u32 endpoint = context->endpoint.endpoint;
	__u64 *full_at = bpf_map_lookup_elem(&budgets, &endpoint);
	__u64 seen, next;

	if (!full_at || !context->settings->event_burst)
		return false;
	seen = *(volatile __u64 *)full_at;
	next = (seen > context->now ? seen : context->now) + interval;
	if (next > context->now + interval * context->settings->event_burst)
		return false;
	/* Whoever loses the race gives its event up. */
	return __sync_val_compare_and_swap(full_at, seen, next) == seen;
}

static __always_inline bool send_event(struct __sk_buff *skb, const struct context *context,
				       enum reason reason)
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
	event->source = packet->source;
	event->destination = packet->destination;
	event->source_port_be = packet->source_port;
	event->destination_port_be = packet->destination_port;
	event->protocol = packet->protocol;
	event->reason = reason;
	event->parsed = packet->end != 0;
	__builtin_memset(event->pad, 0, sizeof(event->pad));
	bpf_ringbuf_submit(event, 0);
	return true;
}

static __noinline int drop(struct __sk_buff *skb, const struct context *context, __u32 reason)
{
	struct counters *counts = counters_of(context->endpoint.endpoint);

	if (!counts)
		counts = counters_of(0);
	if (!counts)
		return TC_ACT_SHOT;
	if (reason < DROP_REASONS)
		__sync_fetch_and_add(&counts->drops[reason], 1);
	if (!context->settings)
		return TC_ACT_SHOT;
	if (!take_event(context))
		counts->events_suppressed++;
	else if (!send_event(skb, context, reason))
		counts->events_lost++;
	return TC_ACT_SHOT;
}
