/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Judges a packet by the maps: whom it is for, and what the endpoint's table says of that.
 *
 * Verdicts are numbered so that the greatest wins: deny over dns over allow over proxy. What is not
 * found is not allowed. What audited policies alone would drop passes, and `context->audited` says
 * for which reason they would.
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

/* What a row says of the packet: a verdict, and what is audited. */
static __always_inline __u32 row_of(const struct context *context, __u32 identity)
{
	struct row key = {
		.bits = 64 + 32,
		.table = context->endpoint.enforcement,
		.identity = identity,
		.protocol = context->packet.protocol,
		.port_be = context->packet.destination_port,
	};
	__u32 *row = bpf_map_lookup_elem(&rows, &key);

	return row ? *row : VERDICT_NONE;
}

/* The greater verdict, and what either audits. */
static __always_inline __u32 union_of(__u32 one, __u32 other)
{
	__u32 greater = (one & ROW_VERDICT) > (other & ROW_VERDICT) ? one : other;

	return greater | ((one | other) & ~ROW_VERDICT);
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
static __always_inline __u32 leased_row(const struct context *context, bool living, int *reason)
{
	struct endpoint_address key = {
		.bits = 32 + 128,
		.endpoint = context->endpoint.endpoint,
		.address = context->packet.destination,
	};
	struct lease *lease = bpf_map_lookup_elem(&leases, &key);
	__u32 row = VERDICT_NONE;

	if (!lease)
		return VERDICT_NONE;
	if (context->now >= lease->expires_ns && !living) {
		*reason = LEASE_EXPIRED;
		return VERDICT_NONE;
	}
	if (lease->sets[0])
		row = row_of(context, lease->sets[0]);
	if (lease->sets[1])
		row = union_of(row, row_of(context, lease->sets[1]));
	return row;
}

/*
 * What counts where only the row for every destination can: whether default deny is audited. Of
 * what is denied wherever it goes, that changes nothing.
 */
static __always_inline __u32 default_deny_of(__u32 any)
{
	return (any & ROW_VERDICT) == VERDICT_DENY ? 0 : any & AUDITED_DEFAULT_DENY;
}

/* What all rows say of the packet together; `reason`: why it is dropped if they allow nothing. */
static __always_inline __u32 united_rows(struct context *context, bool living, int *reason)
{
	__u32 row;

	context->identity = frontend_identity(&context->packet);
	context->frontend = context->identity;
	if (context->frontend)
		return row_of(context, context->identity);
	context->identity = prefix_identity(&context->packet);
	row = row_of(context, IDENTITY_ANY);
	if (!context->identity)
		return default_deny_of(row);
	if (context->identity == IDENTITY_NO_SERVICE) {
		*reason = NO_SERVICE;
		return default_deny_of(row);
	}
	row = union_of(row, row_of(context, context->identity));
	if (is_outside(context->identity))
		row = union_of(row, leased_row(context, living, reason));
	return row;
}

/*
 * Whether what no rule allows is only audited. The rows for every destination say so, whatever
 * their ports.
 */
static __always_inline bool audits_default_deny(const struct context *context)
{
	return row_of(context, IDENTITY_ANY) & AUDITED_DEFAULT_DENY;
}

/*
 * A reason to drop what no rule denies: none where default deny is audited, and the packet goes on,
 * audited by it.
 */
__noinline int unless_audited(struct context *context, __u32 reason)
{
	if (!context || !audits_default_deny(context))
		return reason;
	if (!context->audited)
		context->audited = reason;
	return PASSED;
}

/* A verdict, or the reason why there is none that lets the packet go, in one number. */
#define JUDGED(verdict) ((verdict) << 8)
#define VERDICT_OF(judgement) ((judgement) >> 8)
#define REASON_OF(judgement) ((judgement) & 0xff)

static __always_inline __u32 judgement_of(struct context *context, __u32 row, int reason)
{
	__u8 protocol = context->packet.protocol;

	context->audited = row & AUDITED_DENY_RULE ? DENY_RULE : PASSED;
	switch (row & ROW_VERDICT) {
	case VERDICT_UNRULED:
	case VERDICT_ALLOW:
		return JUDGED(VERDICT_ALLOW);
	case VERDICT_PROXY:
		if (protocol == IPPROTO_TCP)
			return JUDGED(VERDICT_PROXY);
		reason = protocol == IPPROTO_UDP ? QUIC_NOT_INSPECTED : POLICY_DENIED;
		break;
	case VERDICT_DNS:
		if (protocol == IPPROTO_UDP || protocol == IPPROTO_TCP)
			return JUDGED(VERDICT_DNS);
		reason = POLICY_DENIED;
		break;
	case VERDICT_DENY:
		return DENY_RULE;
	}
	/* Of a service's port the row for every destination says this alone. */
	if (context->frontend && audits_default_deny(context))
		row |= AUDITED_DEFAULT_DENY;
	if (!(row & AUDITED_DEFAULT_DENY))
		return reason;
	if (!context->audited)
		context->audited = reason;
	return JUDGED(VERDICT_ALLOW);
}

/* `living`: the packet's flow was allowed before. */
__noinline __u32 judge(struct context *context, bool living)
{
	int reason = POLICY_DENIED;
	__u32 row;

	if (!context)
		return POLICY_DENIED;
	row = united_rows(context, living, &reason);
	return judgement_of(context, row, reason);
}
