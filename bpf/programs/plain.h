/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What almost every frame is, an IP header with TCP or UDP right behind it, read in place and
 * without a helper's call.
 */
#pragma once

#include "parse.h"

static __always_inline bool take_plain(struct __sk_buff *skb, struct packet *packet,
				       const void *transport)
{
	const struct tcphdr *tcp = transport;

	packet->tracked = true;
	if (packet->protocol == IPPROTO_UDP)
		return !take_udp(skb, packet, transport);
	if (packet->protocol != IPPROTO_TCP || (const void *)(tcp + 1) > (void *)(long)skb->data_end)
		return false;
	return !take_tcp(packet, tcp);
}

/*
 * False leaves the frame to `parse_frame` and `parse_transport`, which read every frame and say
 * what is wrong with one.
 */
static __always_inline bool parse_plain(struct __sk_buff *skb, struct packet *packet)
{
	const struct ethhdr *ethernet = (void *)(long)skb->data;
	const void *end = (void *)(long)skb->data_end;
	const struct ipv6hdr *ip6 = (const void *)(ethernet + 1);
	const struct iphdr *ip4 = (const void *)(ethernet + 1);

	if ((const void *)(ip4 + 1) + sizeof(struct udphdr) > end)
		return false;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return !(ip4->frag_off & bpf_htons(0x3fff)) &&
		       !take_ipv4(skb, packet, sizeof(*ethernet), ip4) &&
		       take_plain(skb, packet, ip4 + 1);
	if (ethernet->h_proto != bpf_htons(ETH_P_IPV6) ||
	    (const void *)(ip6 + 1) + sizeof(struct udphdr) > end)
		return false;
	return !take_ipv6(skb, packet, sizeof(*ethernet), ip6) && take_plain(skb, packet, ip6 + 1);
}
