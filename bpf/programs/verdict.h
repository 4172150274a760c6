/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Judges a packet by the maps: whom it is for, and what the endpoint's table says of that.
 *
 * Verdicts are numbered so that the greatest wins: deny over dns over allow over proxy. What is not
 * found is not allowed.
 */
#pragma once

#include "context.h"

static __always_inline bool is_outside(__u32 identity)
{
	return identity == IDENTITY_WORLD || identity == IDENTITY_WORLD_IPV4 ||
	       identity == IDENTITY_WORLD_IPV6 || identity >> 24 == IDENTITY_SCOPE_CIDR;
}

/* Whether the endpoint may send from an address. */
static __noinline bool may_send_from(const struct context *context,
					  const struct address *source)
{
	struct endpoint_address key = {
		.bits = 32 + 128,
		.endpoint = context->endpoint.endpoint,
		.address = *source,
	};
	__u32 *bits = bpf_map_lookup_elem(&sources, &key);

	/* An IPv6 prefix short enough to cover v4-mapped addresses says nothing of IPv4. */
	return bits && (context->packet.ipv6 || *bits >= 32 + V4_BITS);
}

static __always_inline bool is_spoofed(const struct context *context)
{
	return !may_send_from(context, &context->packet.source);
}

static __always_inline __u32 row_verdict(const struct context *context, __u32 identity)
{
	struct row key = {
		.bits = 64 + 32,
		.table = context->endpoint.enforcement,
		.identity = identity,
		.protocol = context->packet.protocol,
		.port_be = context->packet.destination_port,
	};
	__u32 *verdict = bpf_map_lookup_elem(&rows, &key);

	return verdict ? *verdict : VERDICT_NONE;
}

static __always_inline __u32 union_of(__u32 one, __u32 other)
{
	return one > other ? one : other;
}

static __always_inline __u32 frontend_identity(const struct packet *packet)
{
	struct frontend key = {
		.address = packet->destination,
		.protocol = packet->protocol,
	};
	__u32 *identity;

	if (!is_icmp(packet))
		key.port_be = packet->destination_port;
	identity = bpf_map_lookup_elem(&frontends, &key);
	return identity ? *identity : 0;
}

/* The identity of the longest prefix of the node's trie, 0 if there is none. */
static __always_inline __u32 prefix_identity(const struct packet *packet)
{
	struct address_prefix key = {
		.bits = 128,
		.address = packet->destination,
	};
	struct prefix_entry *entry = bpf_map_lookup_elem(&prefixes, &key);

	if (!entry || (!packet->ipv6 && entry->bits < V4_BITS))
		return 0;
	return entry->identity;
}

/*
 * What the names say that the endpoint resolved to this address. An expired lease opens no new
 * flow, but a living one may go on by it until the daemon takes it away.
 */
static __always_inline __u32 lease_verdict(const struct context *context, bool living, int *reason)
{
	struct endpoint_address key = {
		.bits = 32 + 128,
		.endpoint = context->endpoint.endpoint,
		.address = context->packet.destination,
	};
	struct lease *lease = bpf_map_lookup_elem(&leases, &key);
	__u32 verdict = VERDICT_NONE;

	if (!lease)
		return VERDICT_NONE;
	if (context->now >= lease->expires_ns && !living) {
		*reason = LEASE_EXPIRED;
		return VERDICT_NONE;
	}
	if (lease->sets[0])
		verdict = row_verdict(context, lease->sets[0]);
	if (lease->sets[1])
		verdict = union_of(verdict, row_verdict(context, lease->sets[1]));
	return verdict;
}

/* A verdict, or the reason why there is none that lets the packet go, in one number. */
#define JUDGED(verdict) ((verdict) << 8)
#define VERDICT_OF(judgement) ((judgement) >> 8)
#define REASON_OF(judgement) ((judgement) & 0xff)

static __always_inline __u32 judgement_of(const struct packet *packet, __u32 verdict, int reason)
{
	switch (verdict) {
	case VERDICT_UNRULED:
	case VERDICT_ALLOW:
		return JUDGED(VERDICT_ALLOW);
	case VERDICT_PROXY:
		if (packet->protocol == IPPROTO_TCP)
			return JUDGED(VERDICT_PROXY);
		return packet->protocol == IPPROTO_UDP ? QUIC_NOT_INSPECTED : POLICY_DENIED;
	case VERDICT_DNS:
		if (packet->protocol == IPPROTO_UDP || packet->protocol == IPPROTO_TCP)
			return JUDGED(VERDICT_DNS);
		return POLICY_DENIED;
	case VERDICT_DENY:
		return DENY_RULE;
	default:
		return reason;
	}
}

/* `living`: the packet's flow was allowed before. */
__noinline __u32 judge(struct context *context, bool living)
{
	int reason = POLICY_DENIED;
	__u32 verdict;

	if (!context)
		return POLICY_DENIED;
	context->identity = frontend_identity(&context->packet);
	context->frontend = context->identity;
	if (context->frontend) {
		verdict = row_verdict(context, context->identity);
		return judgement_of(&context->packet, verdict, reason);
	}
	context->identity = prefix_identity(&context->packet);
	if (!context->identity)
		return POLICY_DENIED;
	if (context->identity == IDENTITY_NO_SERVICE)
		return NO_SERVICE;
	verdict = union_of(row_verdict(context, context->identity),
			   row_verdict(context, IDENTITY_ANY));
	if (is_outside(context->identity))
		verdict = union_of(verdict, lease_verdict(context, living, &reason));
	return judgement_of(&context->packet, verdict, reason);
}
