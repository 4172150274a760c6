/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The flow tables: one for each endpoint and direction, so that nobody's flood evicts another's
 * flows. An entry that was silent for too long counts as absent.
 *
 * An outbound flow that is denied later keeps its entry, with that verdict: so that nothing which
 * arrives late can begin an inbound flow in its place and carry it on.
 */
#pragma once

#include "context.h"

#define SECOND_NS 1000000000ull
#define FLOW_CLOSED (FLOW_FIN_LOCAL | FLOW_FIN_REMOTE)

/* The endpoint's tables; none before the daemon has made them. */
static __always_inline void *outbound_flows(const struct context *context)
{
	return bpf_map_lookup_elem(&flows_out, &context->endpoint.endpoint);
}

static __always_inline void *inbound_flows(const struct context *context)
{
	return bpf_map_lookup_elem(&flows_in, &context->endpoint.endpoint);
}

static __always_inline void key_outbound(const struct packet *packet, struct flow_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->local = packet->source;
	key->remote = packet->destination;
	key->protocol = packet->protocol;
	if (is_icmp(packet)) {
		key->local_port_be = packet->echo_identifier;
	} else {
		key->local_port_be = packet->source_port;
		key->remote_port_be = packet->destination_port;
	}
}

static __always_inline void key_inbound(const struct packet *packet, struct flow_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->local = packet->destination;
	key->remote = packet->source;
	key->protocol = packet->protocol;
	if (is_icmp(packet)) {
		key->local_port_be = packet->echo_identifier;
	} else {
		key->local_port_be = packet->destination_port;
		key->remote_port_be = packet->source_port;
	}
}

static __always_inline bool is_connected(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

static __always_inline bool is_live(const struct context *context, const struct flow *flow)
{
	const struct settings *settings = context->settings;
	__u64 idle = settings->udp_idle_ns;
	__u32 bits = flow->bits;

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

/* Notes that the flow lives; writes no more than once a second and once a bit. */
static __always_inline void touch(const struct context *context, struct flow *flow, __u32 bits)
{
	if (context->now > flow->seen_ns + SECOND_NS)
		flow->seen_ns = context->now;
	if ((flow->bits & bits) != bits)
		__sync_fetch_and_or(&flow->bits, bits);
}

static __always_inline __u32 closing_bits(const struct packet *packet, __u32 fin)
{
	return (packet->fin ? fin : 0) | (packet->reset ? FLOW_RESET : 0);
}

static __always_inline void count_flow(const struct context *context, bool inserted,
				       enum direction direction)
{
	struct counters *counts = counters_of(context->endpoint.endpoint);

	if (!counts)
		return;
	if (inserted)
		counts->inserted[direction]++;
	else
		counts->removed[direction]++;
}

/* Writes an entry, whole. `replaces`: there is one already. */
static __always_inline bool record(const struct context *context, void *table,
				   const struct flow_key *key, __u32 bits, bool replaces,
				   enum direction direction)
{
	struct flow flow = {
		.seen_ns = context->now,
		.generation = context->endpoint.generation,
		.bits = bits,
	};

	if (bpf_map_update_elem(table, key, &flow, BPF_ANY))
		return false;
	if (!replaces)
		count_flow(context, true, direction);
	return true;
}

/* The living inbound flow that a packet belongs to. */
static __always_inline struct flow *find_inbound(const struct context *context,
						 const struct flow_key *key)
{
	void *inbound = inbound_flows(context);
	struct flow *flow = inbound ? bpf_map_lookup_elem(inbound, key) : NULL;

	return flow && is_live(context, flow) ? flow : NULL;
}

/* A flow that the endpoint begins takes the place of an older one that came in. */
static __always_inline void forget_inbound(const struct context *context,
					   const struct flow_key *key)
{
	void *inbound = inbound_flows(context);

	if (inbound && !bpf_map_delete_elem(inbound, key))
		count_flow(context, false, INBOUND);
}
