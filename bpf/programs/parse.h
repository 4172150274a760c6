/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * A frame's headers, both families in one form.
 *
 * Nothing is trusted: every length is checked against the frame, an extension header that is not
 * known ends the walk with a reason, and what was not read stays zero.
 */
#pragma once

#include "abi.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_VLAN_TAGS 2
#define MAX_EXTENSION_HEADERS 6
#define IPPROTO_SHIM6 140

/* The byte of a TCP header that holds FIN to CWR, and flags in it. */
#define TCP_FLAGS 13
#define TCP_FIN 0x01
#define TCP_RST 0x04
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PACKET_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

/* The header of ICMP, both families; <linux/icmp.h> needs a C library for the target. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};

enum frame {
	FRAME_OTHER,
	FRAME_ARP,
	FRAME_IP,
};

struct packet {
	struct address source;
	struct address destination;
	/* Where the transport header begins and the IP packet ends, from the frame's start. */
	__u32 transport;
	__u32 end;
	__u32 identification;
	__u16 fragment_offset;
	bool more_fragments;
	bool ipv6;
	/* Whether extension headers stand before the transport header. */
	bool extended;
	__u8 protocol;
	__u8 hop_limit;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags;
	/* Whether the transport header was read. */
	bool transport_read;
	/* Whether the flow table can hold it. */
	bool tracked;
	/* A SYN without ACK, an SCTP INIT or an echo request: never part of an older flow's reply. */
	bool opens;
	/* As rows have it: for ICMP the destination's is the type. */
	__be16 source_port;
	__be16 destination_port;
	__be16 echo_identifier;
};

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->protocol == (packet->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static __always_inline bool is_fragment(const struct packet *packet)
{
	return packet->more_fragments || packet->fragment_offset;
}

static __always_inline void map_v4(struct address *address, __be32 v4)
{
	address->words[0] = 0;
	address->words[1] = 0;
	address->words[2] = bpf_htonl(0xffff);
	address->words[3] = v4;
}

static __always_inline bool is_v4_mapped(const struct address *address)
{
	return !address->words[0] && !address->words[1] && address->words[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_unspecified(const struct address *address)
{
	return !(address->words[0] | address->words[1] | address->words[2] | address->words[3]);
}

static __always_inline bool is_link_local(const struct address *address)
{
	return (address->words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_multicast(const struct address *address)
{
	if (is_v4_mapped(address))
		return bpf_ntohl(address->words[3]) >= 0xe0000000;
	return address->bytes[0] == 0xff;
}

static __always_inline int take_ipv4(struct __sk_buff *skb, struct packet *packet, __u32 offset,
				     const struct iphdr *ip)
{
	__u32 total = bpf_ntohs(ip->tot_len);

	/* From 6.3 on, a segment of over 64 KiB that is still to be cut says 0. */
	if (!total && skb->gso_size)
		total = skb->len - offset;
	if (ip->version != 4 || ip->ihl < 5 || total < sizeof(*ip) || total > skb->len - offset)
		return MALFORMED;
	map_v4(&packet->source, ip->saddr);
	map_v4(&packet->destination, ip->daddr);
	packet->protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->identification = ip->id;
	packet->fragment_offset = bpf_ntohs(ip->frag_off) & 0x1fff;
	packet->more_fragments = ip->frag_off & bpf_htons(0x2000);
	packet->transport = offset + sizeof(*ip);
	packet->end = offset + total;
	return ip->ihl > 5 ? UNSUPPORTED_HEADER : PASSED;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return MALFORMED;
	return take_ipv4(skb, packet, offset, &ip);
}

struct extension {
	__u8 next;
	__u8 length;
	__be16 fragment;
	__be32 identification;
};

/* Steps over one extension header; `next` becomes what follows it. */
static __always_inline int skip_extension(struct __sk_buff *skb, struct packet *packet, __u8 *next)
{
	struct extension header;
	bool fragment = *next == IPPROTO_FRAGMENT;

	if (packet->transport + sizeof(header) > packet->end ||
	    bpf_skb_load_bytes(skb, packet->transport, &header, sizeof(header)))
		return MALFORMED;
	packet->extended = true;
	packet->transport += fragment ? 8 : (header.length + 1) * 8;
	if (packet->transport > packet->end)
		return MALFORMED;
	if (fragment) {
		if (is_fragment(packet))
			return MALFORMED;
		packet->identification = header.identification;
		packet->fragment_offset = bpf_ntohs(header.fragment) >> 3;
		packet->more_fragments = header.fragment & bpf_htons(1);
	}
	*next = header.next;
	return PASSED;
}

static __always_inline int take_ipv6(struct __sk_buff *skb, struct packet *packet, __u32 offset,
				     const struct ipv6hdr *ip)
{
	__u32 payload = bpf_ntohs(ip->payload_len);

	packet->ipv6 = true;
	if (!payload && skb->gso_size)
		payload = skb->len - offset - sizeof(*ip);
	if (ip->version != 6 || payload > skb->len - offset - sizeof(*ip))
		return MALFORMED;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	packet->transport = offset + sizeof(*ip);
	packet->end = packet->transport + payload;
	if (is_v4_mapped(&packet->source) || is_v4_mapped(&packet->destination))
		return MALFORMED;
	return PASSED;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	struct ipv6hdr ip;
	int reason;
	__u8 next;

	packet->ipv6 = true;
	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return MALFORMED;
	reason = take_ipv6(skb, packet, offset, &ip);
	if (reason)
		return reason;

	next = ip.nexthdr;
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		packet->protocol = next;
		/* What a later fragment begins with is data. */
		if (packet->fragment_offset)
			return PASSED;
		switch (next) {
		case IPPROTO_HOPOPTS:
			if (i)
				return UNSUPPORTED_HEADER;
			break;
		case IPPROTO_DSTOPTS:
		case IPPROTO_FRAGMENT:
			break;
		case IPPROTO_ROUTING:
		case IPPROTO_AH:
		case IPPROTO_MH:
		case IPPROTO_SHIM6:
		case 139: /* HIP */
		case 253: /* experiments */
		case 254:
			return UNSUPPORTED_HEADER;
		default:
			return PASSED;
		}
		reason = skip_extension(skb, packet, &next);
		if (reason)
			return reason;
	}
	return UNSUPPORTED_HEADER;
}

static __always_inline int take_tcp(struct packet *packet, const struct tcphdr *tcp)
{
	if (packet->transport + sizeof(*tcp) > packet->end || tcp->doff < 5 ||
	    (__u32)tcp->doff * 4 > packet->end - packet->transport)
		return MALFORMED;
	packet->transport_read = true;
	packet->tcp_flags = ((const __u8 *)tcp)[TCP_FLAGS];
	packet->source_port = tcp->source;
	packet->destination_port = tcp->dest;
	packet->opens = tcp->syn && !tcp->ack && !tcp->rst;
	return PASSED;
}

static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *packet)
{
	struct tcphdr tcp;

	if (bpf_skb_load_bytes(skb, packet->transport, &tcp, sizeof(tcp)))
		return MALFORMED;
	return take_tcp(packet, &tcp);
}

static __always_inline int take_udp(struct __sk_buff *skb, struct packet *packet,
				    const struct udphdr *udp)
{
	__u32 length = bpf_ntohs(udp->len);

	if (packet->transport + sizeof(*udp) > packet->end)
		return MALFORMED;
	if (length < sizeof(*udp) && !skb->gso_size)
		return MALFORMED;
	if (length > packet->end - packet->transport && !packet->more_fragments && !skb->gso_size)
		return MALFORMED;
	packet->transport_read = true;
	packet->source_port = udp->source;
	packet->destination_port = udp->dest;
	return PASSED;
}

static __always_inline int parse_udp(struct __sk_buff *skb, struct packet *packet)
{
	struct udphdr udp;

	if (bpf_skb_load_bytes(skb, packet->transport, &udp, sizeof(udp)))
		return MALFORMED;
	return take_udp(skb, packet, &udp);
}

#define SCTP_INIT 1

static __always_inline int parse_sctp(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		__be16 source;
		__be16 destination;
		__be32 tag;
		__be32 checksum;
		__u8 chunk;
		__u8 flags;
		__be16 length;
	} sctp;

	if (packet->transport + sizeof(sctp) > packet->end ||
	    bpf_skb_load_bytes(skb, packet->transport, &sctp, sizeof(sctp)))
		return MALFORMED;
	packet->transport_read = true;
	packet->source_port = sctp.source;
	packet->destination_port = sctp.destination;
	packet->opens = sctp.chunk == SCTP_INIT;
	return PASSED;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *packet)
{
	struct icmp_header icmp;
	bool request, reply;

	if (packet->transport + sizeof(icmp) > packet->end ||
	    bpf_skb_load_bytes(skb, packet->transport, &icmp, sizeof(icmp)))
		return MALFORMED;
	packet->transport_read = true;
	packet->icmp_type = icmp.type;
	packet->icmp_code = icmp.code;
	packet->destination_port = bpf_htons(icmp.type);
	request = icmp.type == (packet->ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST);
	reply = icmp.type == (packet->ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY);
	packet->tracked = request || reply;
	packet->opens = request;
	packet->echo_identifier = icmp.identifier;
	return PASSED;
}

/* Reads the transport header, which a later fragment has not. */
static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *packet)
{
	if (is_icmp(packet))
		return parse_icmp(skb, packet);
	packet->tracked = true;
	switch (packet->protocol) {
	case IPPROTO_TCP:
		return parse_tcp(skb, packet);
	case IPPROTO_UDP:
		return parse_udp(skb, packet);
	case IPPROTO_SCTP:
		return parse_sctp(skb, packet);
	default:
		return PASSED;
	}
}

/* A later fragment must not reach back into the transport header that was judged. */
static __always_inline int check_overlap(const struct packet *packet)
{
	__u32 least = packet->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : 8;

	return (__u32)packet->fragment_offset * 8 < least ? MALFORMED : PASSED;
}

/* Reads the frame up to its IP addresses and protocol. */
static __always_inline int parse_frame(struct __sk_buff *skb, struct packet *packet,
				       enum frame *frame)
{
	__u32 offset = offsetof(struct ethhdr, h_proto);
	__be16 ethertype = 0;

	*frame = FRAME_OTHER;
	for (int i = 0; i <= MAX_VLAN_TAGS; i++) {
		if (bpf_skb_load_bytes(skb, offset, &ethertype, sizeof(ethertype)))
			return MALFORMED;
		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		offset += 4;
	}
	offset += sizeof(ethertype);
	if (ethertype == bpf_htons(ETH_P_ARP)) {
		*frame = FRAME_ARP;
		return PASSED;
	}
	if (ethertype == bpf_htons(ETH_P_IP)) {
		*frame = FRAME_IP;
		return parse_ipv4(skb, packet, offset);
	}
	if (ethertype == bpf_htons(ETH_P_IPV6)) {
		*frame = FRAME_IP;
		return parse_ipv6(skb, packet, offset);
	}
	return PASSED;
}
