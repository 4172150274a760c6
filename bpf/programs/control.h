/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The packets that networks need beside the data: neighbour discovery, multicast reports and ICMP
 * errors. Each passes only in the form in which it can carry nothing further than the link, or
 * back to where a flow of the endpoint's leads.
 */
#pragma once

#include "flow.h"
#include "verdict.h"

#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_NEIGHBOUR_SOLICITATION 135
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define ND_REDIRECT 137
#define MLD_REPORT 131
#define MLD_DONE 132
#define MLD2_REPORT 143
#define ON_LINK_HOP_LIMIT 255
#define AF_INET6 10

enum control {
	CONTROL_NONE,
	CONTROL_NEIGHBOUR,
	CONTROL_MULTICAST,
	CONTROL_ROUTER,
	CONTROL_ERROR,
};

static __always_inline enum control control_of(const struct packet *packet)
{
	if (!is_icmp(packet) || packet->fragment_offset)
		return CONTROL_NONE;
	if (!packet->ipv6) {
		bool error = packet->icmp_type == ICMP_UNREACHABLE ||
			     packet->icmp_type == ICMP_TIME_EXCEEDED ||
			     packet->icmp_type == ICMP_PARAMETER_PROBLEM;

		return error ? CONTROL_ERROR : CONTROL_NONE;
	}
	switch (packet->icmp_type) {
	case ICMPV6_UNREACHABLE:
	case ICMPV6_PACKET_TOO_BIG:
	case ICMPV6_TIME_EXCEEDED:
	case ICMPV6_PARAMETER_PROBLEM:
		return CONTROL_ERROR;
	case ND_ROUTER_SOLICITATION:
	case ND_NEIGHBOUR_SOLICITATION:
	case ND_NEIGHBOUR_ADVERTISEMENT:
		return CONTROL_NEIGHBOUR;
	case ND_ROUTER_ADVERTISEMENT:
	case ND_REDIRECT:
		return CONTROL_ROUTER;
	case MLD_REPORT:
	case MLD_DONE:
	case MLD2_REPORT:
		return CONTROL_MULTICAST;
	default:
		return CONTROL_NONE;
	}
}

/* Whether the source is one that only neighbour discovery and multicast reports may have. */
static __always_inline bool is_link_source(const struct packet *packet)
{
	return packet->ipv6 &&
	       (is_unspecified(&packet->source) || is_link_local(&packet->source));
}

static __always_inline bool is_link_multicast(const struct address *address)
{
	return address->bytes[0] == 0xff && (address->bytes[1] & 0x0f) <= 2;
}

/*
 * Whether the host would carry a packet to this unicast address further than to itself or back to
 * the link it came from. It would lower the hop limit, but not before the data is out.
 */
static __noinline bool is_forwarded(struct __sk_buff *skb, const struct context *context)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET6,
		.ifindex = skb->ifindex,
	};
	long answer;

	if (context->endpoint.bridge)
		fib.ifindex = context->endpoint.bridge;
	__builtin_memcpy(fib.ipv6_src, &context->packet.source, sizeof(fib.ipv6_src));
	__builtin_memcpy(fib.ipv6_dst, &context->packet.destination, sizeof(fib.ipv6_dst));
	answer = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (answer != BPF_FIB_LKUP_RET_SUCCESS && answer != BPF_FIB_LKUP_RET_NO_NEIGH)
		return answer < 0;
	return fib.ifindex != skb->ifindex && fib.ifindex != context->endpoint.bridge;
}

/* Whether a solicitation or advertisement stays on the link. */
static __always_inline bool is_neighbourly(struct __sk_buff *skb, const struct context *context)
{
	const struct packet *packet = &context->packet;

	if (packet->hop_limit != ON_LINK_HOP_LIMIT || packet->icmp_code || packet->extended)
		return false;
	if (is_link_multicast(&packet->destination))
		return true;
	if (is_multicast(&packet->destination))
		return false;
	if (is_link_local(&packet->destination))
		return true;
	if (packet->icmp_type == ND_ROUTER_SOLICITATION)
		return false;
	return !is_forwarded(skb, context);
}

/* A router forwards no packet with hop limit 1, so a report's group may be any. */
static __always_inline bool is_report(const struct packet *packet)
{
	return packet->hop_limit == 1 && is_multicast(&packet->destination) &&
	       !is_fragment(packet);
}

/* Where the header that an ICMP error quotes has its protocol and its transport header. */
static __always_inline int quote_ipv4(struct __sk_buff *skb, const struct packet *packet,
				      __u32 *offset, struct flow_key6 *key)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, *offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    (ip.frag_off & bpf_htons(0x1fff)))
		return ICMP_UNRELATED;
	map_v4(&key->remote, ip.saddr);
	map_v4(&key->local, ip.daddr);
	key->protocol = ip.protocol;
	*offset += ip.ihl * 4;
	return PASSED;
}

static __always_inline int quote_ipv6(struct __sk_buff *skb, const struct packet *packet,
				      __u32 *offset, struct flow_key6 *key)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, *offset, &ip, sizeof(ip)) || ip.version != 6)
		return ICMP_UNRELATED;
	__builtin_memcpy(&key->remote, &ip.saddr, sizeof(key->remote));
	__builtin_memcpy(&key->local, &ip.daddr, sizeof(key->local));
	key->protocol = ip.nexthdr;
	*offset += sizeof(ip);
	return PASSED;
}

/* By exclusive or: clang before 15 makes a call of memcmp, which a program cannot reach. */
static __always_inline bool is_same(const struct address *one, const struct address *other)
{
	return !((one->words[0] ^ other->words[0]) | (one->words[1] ^ other->words[1]) |
		 (one->words[2] ^ other->words[2]) | (one->words[3] ^ other->words[3]));
}

/*
 * The key of the flow whose packet an ICMP error quotes. What is quoted came to the endpoint, and
 * the error goes back to its sender and to nobody else.
 */
static __always_inline int quoted_key(struct __sk_buff *skb, const struct packet *packet,
				      struct flow_key6 *key)
{
	__u32 offset = packet->transport + sizeof(struct icmp_header);
	__be16 transport[4];
	int reason;

	__builtin_memset(key, 0, sizeof(*key));
	reason = packet->ipv6 ? quote_ipv6(skb, packet, &offset, key)
			      : quote_ipv4(skb, packet, &offset, key);
	if (reason)
		return reason;
	if (offset + sizeof(transport) > packet->end ||
	    bpf_skb_load_bytes(skb, offset, transport, sizeof(transport)))
		return ICMP_UNRELATED;
	if (!is_same(&key->remote, &packet->destination))
		return ICMP_UNRELATED;
	if (key->protocol == (packet->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		key->local_port_be = transport[2];
	} else if (has_ports(key->protocol)) {
		key->remote_port_be = transport[0];
		key->local_port_be = transport[1];
	}
	return PASSED;
}

/* An ICMP error passes if it answers a packet of a living flow. */
__noinline int judge_error(struct __sk_buff *skb, struct context *context)
{
	struct flow_key6 key;
	struct flow *flow;
	__u8 protocol;
	int reason;

	if (!context)
		return ICMP_UNRELATED;
	reason = quoted_key(skb, &context->packet, &key);
	if (reason)
		return reason;
	protocol = context->packet.protocol;
	context->packet.protocol = key.protocol;
	reason = ICMP_UNRELATED;
	flow = find_flow(context, OUTBOUND, &key);
	if (flow && is_live(context, flow) && verdict_of(flow) == VERDICT_ALLOW &&
	    flow->generation == context->endpoint.generation)
		reason = PASSED;
	if (reason && find_inbound(context, &key))
		reason = PASSED;
	context->packet.protocol = protocol;
	return reason;
}
