/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The short way of almost every packet: its flow is known and was seen within the last second, its
 * verdict is of the present generation, and the packet says nothing new of it. Whatever is not so
 * takes the long way, which decides alone.
 *
 * Nothing here is slow: array look-ups and the clock of ticks are put into the program by the
 * kernel, so that the one call is the flow's own look-up.
 */
#pragma once

#include "flow.h"
#include "plain.h"

enum short_way {
	/* There is nothing to decide and nothing to note. */
	GOES_ON,
	/* A flow is known, or the packet was not read. */
	LOOK_CLOSER,
	/* Neither table knows a flow of it. */
	IS_FIRST,
};

/* A flow, and whether it came in. */
struct known {
	struct flow *flow;
	bool inbound;
};

/* Where a packet's flow is more likely to be: servers have the lower port. */
static __always_inline enum direction likely_direction(const struct flow_key6 *key)
{
	bool serves = bpf_ntohs(key->local_port_be) < bpf_ntohs(key->remote_port_be);

	return serves ? INBOUND : OUTBOUND;
}

static __always_inline struct known find_known4(const struct packet *packet, __u32 slot, bool sent)
{
	struct known known = {};
	struct flow_key6 wide;
	struct flow_key4 key;

	key_of(packet, sent, &wide);
	key = narrow(&wide);
	known.inbound = likely_direction(&wide);
	known.flow = find_in(&flows4, table_index(slot, known.inbound), &key);
	if (!known.flow) {
		known.inbound = !known.inbound;
		known.flow = find_in(&flows4, table_index(slot, known.inbound), &key);
	}
	return known;
}

static __always_inline struct known find_known6(const struct packet *packet, __u32 slot, bool sent)
{
	struct known known = {};
	struct flow_key6 key;

	key_of(packet, sent, &key);
	known.inbound = likely_direction(&key);
	known.flow = find_in(&flows6, table_index(slot, known.inbound), &key);
	if (!known.flow) {
		known.inbound = !known.inbound;
		known.flow = find_in(&flows6, table_index(slot, known.inbound), &key);
	}
	return known;
}

/* Whether what is known of a flow leaves nothing to decide or to note. */
static __always_inline bool is_settled(const struct known *known, bool sent)
{
	__u32 bits = known->flow->bits;
	__u32 verdict = bits & FLOW_VERDICT;

	if (sent == known->inbound && !(bits & FLOW_REPLIED))
		return false;
	return verdict == VERDICT_ALLOW || (!sent && verdict != VERDICT_DENY);
}

/* `sent`: by the endpoint; else it reaches it. */
static __always_inline enum short_way take_short_way(struct __sk_buff *skb,
						     const struct settings *settings, bool sent)
{
	const struct endpoint *endpoint = first_place(skb->ifindex);
	struct packet packet = {};
	union judged judged;
	struct known known;
	union place place;

	if (!endpoint || !parse_plain(skb, &packet))
		return LOOK_CLOSER;
	place = place_of(endpoint);
	judged = judged_of(endpoint);
	if (place.interface != skb->ifindex || judged.enforcement == ENFORCEMENT_NONE ||
	    judged.enforcement >= ENFORCEMENT_CLOSED)
		return LOOK_CLOSER;
	known = packet.ipv6 ? find_known6(&packet, place.slot, sent)
			    : find_known4(&packet, place.slot, sent);
	if (!known.flow)
		return IS_FIRST;
	if (packet.opens || packet.tcp_flags & (TCP_FIN | TCP_RST))
		return LOOK_CLOSER;
	if (sent && known.flow->generation != judged.generation)
		return LOOK_CLOSER;
	/* Put into the program by the kernel, from 5.6 on. */
	if (bpf_jiffies64() - known.flow->seen_jiffies >= settings->fresh_jiffies)
		return LOOK_CLOSER;
	return is_settled(&known, sent) ? GOES_ON : LOOK_CLOSER;
}
