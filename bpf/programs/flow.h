/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The flow tables: one for each endpoint, family and direction, so that nobody's flood evicts
 * another's flows. An entry that was silent for too long counts as absent.
 *
 * An outbound flow that is denied later keeps its entry, with that verdict: so that nothing which
 * arrives late can begin an inbound flow in its place and carry it on.
 */
#pragma once

#include "context.h"

#define SECOND_NS 1000000000ull
#define FLOW_CLOSED (FLOW_FIN_LOCAL | FLOW_FIN_REMOTE)

/* The key of a packet that the endpoint sends, or else of one that reaches it. */
static __always_inline void key_of(const struct packet *packet, bool sent, struct flow_key6 *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->local = sent ? packet->source : packet->destination;
	key->remote = sent ? packet->destination : packet->source;
	key->protocol = packet->protocol;
	if (is_icmp(packet)) {
		key->local_port_be = packet->echo_identifier;
	} else {
		key->local_port_be = sent ? packet->source_port : packet->destination_port;
		key->remote_port_be = sent ? packet->destination_port : packet->source_port;
	}
}

/* The same key where both addresses are v4-mapped. */
static __always_inline struct flow_key4 narrow(const struct flow_key6 *key)
{
	return (struct flow_key4){
		.local = key->local.words[3],
		.remote = key->remote.words[3],
		.local_port_be = key->local_port_be,
		.remote_port_be = key->remote_port_be,
		.protocol = key->protocol,
	};
}

/* The place of an endpoint's table of a direction, among either family's. */
static __always_inline __u32 table_index(__u32 slot, enum direction direction)
{
	return slot * 2 + direction;
}

static __always_inline struct flow *find_in(void *tables, __u32 index, const void *key)
{
	void *table = bpf_map_lookup_elem(tables, &index);

	return table ? bpf_map_lookup_elem(table, key) : NULL;
}

static __noinline struct flow *find_flow(const struct context *context, enum direction direction,
					 const struct flow_key6 *key)
{
	__u32 index = table_index(context->endpoint.slot, direction);
	struct flow_key4 key4 = narrow(key);

	if (context->packet.ipv6)
		return find_in(&flows6, index, key);
	return find_in(&flows4, index, &key4);
}

static __always_inline long put_flow(const struct context *context, enum direction direction,
				     const struct flow_key6 *key, const struct flow *flow)
{
	__u32 index = table_index(context->endpoint.slot, direction);
	struct flow_key4 key4 = narrow(key);
	void *table;

	if (context->packet.ipv6) {
		table = bpf_map_lookup_elem(&flows6, &index);
		return table ? bpf_map_update_elem(table, key, flow, BPF_ANY) : -1;
	}
	table = bpf_map_lookup_elem(&flows4, &index);
	return table ? bpf_map_update_elem(table, &key4, flow, BPF_ANY) : -1;
}

static __always_inline long delete_flow(const struct context *context, enum direction direction,
					const struct flow_key6 *key)
{
	__u32 index = table_index(context->endpoint.slot, direction);
	struct flow_key4 key4 = narrow(key);
	void *table;

	if (context->packet.ipv6) {
		table = bpf_map_lookup_elem(&flows6, &index);
		return table ? bpf_map_delete_elem(table, key) : -1;
	}
	table = bpf_map_lookup_elem(&flows4, &index);
	return table ? bpf_map_delete_elem(table, &key4) : -1;
}

static __always_inline bool is_connected(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

static __always_inline bool is_live(const struct context *context, const struct flow *flow)
{
	const struct settings *settings = find_settings();
	__u32 bits = flow->bits;
	__u64 idle;

	if (!settings)
		return false;
	idle = settings->udp_idle_ns;
	if (is_connected(context->packet.protocol)) {
		bool closing = bits & (FLOW_FIN_LOCAL | FLOW_FIN_REMOTE | FLOW_RESET);
		bool established = (bits & FLOW_REPLIED) && !closing;

		idle = established ? settings->tcp_idle_ns : settings->handshake_idle_ns;
	}
	return context->now < flow->seen_ns + idle;
}

static __always_inline bool is_over(const struct flow *flow)
{
	return (flow->bits & FLOW_RESET) || (flow->bits & FLOW_CLOSED) == FLOW_CLOSED;
}

static __always_inline __u32 verdict_of(const struct flow *flow)
{
	return flow->bits & FLOW_VERDICT;
}

/* What a flow's bits hold of its judgement. */
#define FLOW_JUDGEMENT (FLOW_VERDICT | FLOW_AUDITED)

static __always_inline __u32 flow_judgement(const struct context *context, __u32 verdict)
{
	return verdict | (__u32)context->audited << FLOW_AUDITED_SHIFT;
}

/* Whether some rule lets a flow pass, and not only that default deny is audited. */
static __always_inline bool passes_by_rule(const struct flow *flow)
{
	__u32 audited = (flow->bits & FLOW_AUDITED) >> FLOW_AUDITED_SHIFT;

	return !audited || audited == DENY_RULE;
}

/* Notes that the flow lives; writes no more than once a second and once a bit. */
static __always_inline void touch(const struct context *context, struct flow *flow, __u32 bits)
{
	if (context->now > flow->seen_ns + SECOND_NS) {
		flow->seen_ns = context->now;
		flow->seen_jiffies = bpf_jiffies64();
	}
	if ((flow->bits & bits) != bits)
		__sync_fetch_and_or(&flow->bits, bits);
}

static __always_inline __u32 closing_bits(const struct packet *packet, __u32 fin)
{
	return (packet->tcp_flags & TCP_FIN ? fin : 0) |
	       (packet->tcp_flags & TCP_RST ? FLOW_RESET : 0);
}

/* Writes an entry, whole; `replaces`: there is one already. Says whether it could. */
static __noinline bool record(struct context *context, enum direction direction,
			      const struct flow_key6 *key, __u32 bits, bool replaces)
{
	struct flow flow = {
		.seen_ns = context->now,
		.seen_jiffies = bpf_jiffies64(), /* 5.6 */
		.generation = context->endpoint.generation,
		.bits = bits,
	};

	if (put_flow(context, direction, key, &flow))
		return false;
	if (!replaces)
		context->inserted = true;
	return true;
}

/* The living inbound flow that a packet belongs to. */
static __always_inline struct flow *find_inbound(const struct context *context,
						 const struct flow_key6 *key)
{
	struct flow *flow = context->first ? NULL : find_flow(context, INBOUND, key);

	return flow && is_live(context, flow) ? flow : NULL;
}

/* A flow that the endpoint begins takes the place of an older one that came in. */
static __always_inline void forget_inbound(struct context *context, const struct flow_key6 *key)
{
	if (!context->first && find_flow(context, INBOUND, key) && !delete_flow(context, INBOUND, key))
		context->removed = true;
}
