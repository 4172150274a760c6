/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Hands a packet to a socket of a proxy's.
 *
 * The socket is found on the loopback address, where each DNS worker and each listener of the L7
 * proxy has a port of its own, and assigned to the packet, whose destination stays what it is (bpf_sk_assign: 5.7). The mark makes
 * the host route the packet to itself and keeps its translation away. Without a usable socket the
 * packet is dropped.
 */
#pragma once

#include "context.h"

#include <linux/pkt_cls.h>

static __always_inline void set_mark(struct __sk_buff *skb, const struct settings *settings,
				     __u32 mark)
{
	__u32 wanted = (skb->mark & ~settings->mark_mask) | mark;

	if (skb->mark != wanted)
		skb->mark = wanted;
}

/* The same worker for every packet of a flow. */
static __always_inline __u32 worker_of(const struct packet *packet, __u32 workers)
{
	__u32 hash = packet->source.words[3] ^ packet->destination.words[3];

	hash = (hash ^ packet->source_port) * 0x9e3779b1u;
	return (hash >> 16) % workers;
}

/* The tuple that finds a socket on the loopback address, whoever sends. */
static __always_inline __u32 loopback_tuple(const struct packet *packet, __be16 port,
					    struct bpf_sock_tuple *tuple)
{
	__builtin_memset(tuple, 0, sizeof(*tuple));
	if (packet->ipv6) {
		__builtin_memcpy(tuple->ipv6.saddr, &packet->source, sizeof(tuple->ipv6.saddr));
		tuple->ipv6.daddr[3] = bpf_htonl(1);
		tuple->ipv6.sport = packet->source_port;
		tuple->ipv6.dport = port;
		return sizeof(tuple->ipv6);
	}
	tuple->ipv4.saddr = packet->source.words[3];
	tuple->ipv4.daddr = bpf_htonl(0x7f000001);
	tuple->ipv4.sport = packet->source_port;
	tuple->ipv4.dport = port;
	return sizeof(tuple->ipv4);
}

/* The packet's own tuple. */
static __always_inline __u32 exact_tuple(const struct packet *packet, struct bpf_sock_tuple *tuple)
{
	__builtin_memset(tuple, 0, sizeof(*tuple));
	if (packet->ipv6) {
		__builtin_memcpy(tuple->ipv6.saddr, &packet->source, sizeof(tuple->ipv6.saddr));
		__builtin_memcpy(tuple->ipv6.daddr, &packet->destination,
				 sizeof(tuple->ipv6.daddr));
		tuple->ipv6.sport = packet->source_port;
		tuple->ipv6.dport = packet->destination_port;
		return sizeof(tuple->ipv6);
	}
	tuple->ipv4.saddr = packet->source.words[3];
	tuple->ipv4.daddr = packet->destination.words[3];
	tuple->ipv4.sport = packet->source_port;
	tuple->ipv4.dport = packet->destination_port;
	return sizeof(tuple->ipv4);
}

/*
 * Whether a socket is the proxy's: it has our mark, which takes privileges to set. While there is
 * no proxy, whoever comes by one of its ports gets nothing that was meant for it.
 */
static __always_inline bool is_proxys(struct bpf_sock *socket, const struct settings *settings)
{
	struct bpf_sock *full = bpf_sk_fullsock(socket);

	return full && (full->mark & settings->mark_mask) == settings->mark_answer;
}

/* The worker's or listener's port for a packet, 0 if there is none. */
static __always_inline __be16 port_of(const __be16 *ports, __u32 workers,
				      const struct packet *packet)
{
	__u32 worker;

	if (!workers || workers > MAX_WORKERS)
		return 0;
	worker = worker_of(packet, workers);
	/* The compiler knows that it is smaller, the verifier does not. */
	barrier_var(worker);
	return worker < MAX_WORKERS ? ports[worker] : 0;
}

static __always_inline __be16 proxy_port(const struct settings *settings,
					 const struct packet *packet, __u32 verdict)
{
	if (verdict == VERDICT_PROXY)
		return port_of(settings->l7_ports_be, settings->l7_listeners, packet);
	if (packet->protocol == IPPROTO_UDP)
		return port_of(settings->udp_ports_be, settings->udp_workers, packet);
	return port_of(settings->tcp_ports_be, settings->tcp_workers, packet);
}

static __always_inline struct bpf_sock *find_worker(struct __sk_buff *skb,
						    const struct settings *settings,
						    const struct packet *packet, __u32 verdict)
{
	__be16 port = proxy_port(settings, packet, verdict);
	struct bpf_sock_tuple tuple;
	struct bpf_sock *found;
	__u32 size;

	if (!port)
		return NULL;
	size = loopback_tuple(packet, port, &tuple);
	if (packet->protocol == IPPROTO_UDP)
		found = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		found = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return NULL;
	if (is_proxys(found, settings))
		return found;
	bpf_sk_release(found);
	return NULL;
}

/*
 * Whether some process of the node serves a packet's destination. What a connection leaves behind
 * for a minute hands a new one on its ports to that process, whoever the packet was assigned to.
 */
static __always_inline bool is_served(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_sock_tuple tuple;
	__u32 size = exact_tuple(packet, &tuple);
	struct bpf_sock *found;

	/* No connection comes from port 0, so that only listeners are found. */
	if (packet->ipv6)
		tuple.ipv6.sport = 0;
	else
		tuple.ipv4.sport = 0;
	found = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return false;
	bpf_sk_release(found);
	return true;
}

/*
 * The proxy's own socket for this TCP connection, if there is one. Another process' may have the
 * same tuple (a server on the node, from before the redirect): it carries no mark of ours, and the
 * packet goes to the proxy's listener, which resets the connection.
 */
static __always_inline struct bpf_sock *find_connection(struct __sk_buff *skb,
							const struct settings *settings,
							const struct packet *packet)
{
	struct bpf_sock_tuple tuple;
	__u32 size = exact_tuple(packet, &tuple);
	struct bpf_sock *found, *full;

	found = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return NULL;
	if (found->state == BPF_TCP_LISTEN)
		goto unusable;
	if (found->state == BPF_TCP_TIME_WAIT && is_served(skb, packet))
		goto unusable;
	full = bpf_sk_fullsock(found);
	if (full && !(full->mark & settings->mark_mask))
		goto unusable;
	return found;
unusable:
	bpf_sk_release(found);
	return NULL;
}

static __always_inline struct bpf_sock *find_socket(struct __sk_buff *skb,
						    const struct settings *settings,
						    const struct packet *packet, __u32 verdict)
{
	struct bpf_sock *found = NULL;

	if (packet->protocol == IPPROTO_TCP)
		found = find_connection(skb, settings, packet);
	if (!found)
		found = find_worker(skb, settings, packet, verdict);
	return found;
}

/* Gives the packet to the proxy's socket. */
static __always_inline int assign(struct __sk_buff *skb, const struct settings *settings,
				  const struct packet *packet, __u32 verdict)
{
	struct bpf_sock *found = find_socket(skb, settings, packet, verdict);
	long error;

	if (!found)
		return PROXY_UNAVAILABLE;
	error = bpf_sk_assign(skb, found, 0);
	bpf_sk_release(found);
	if (error)
		return PROXY_UNAVAILABLE;
	set_mark(skb, settings, settings->mark_redirect);
	return PASSED;
}

/*
 * From a bridge port to its bridge, a packet's mark says to which proxy it goes. No other packet
 * comes in with both bits: those that the L7 proxy sends by pods' addresses only go out with them.
 */
static __always_inline __u32 mark_of_verdict(const struct settings *settings, __u32 verdict)
{
	return verdict == VERDICT_PROXY ? settings->mark_redirect ^ settings->mark_answer
					: settings->mark_redirect;
}

static __always_inline __u32 verdict_of_mark(const struct settings *settings, __u32 mark)
{
	if (!settings->mark_redirect)
		return VERDICT_NONE;
	if (mark == mark_of_verdict(settings, VERDICT_DNS))
		return VERDICT_DNS;
	return mark == mark_of_verdict(settings, VERDICT_PROXY) ? VERDICT_PROXY : VERDICT_NONE;
}

/*
 * On a bridge port an assigned socket would be lost, so the packet goes to the bridge's own
 * ingress, where `bridge_ingress` assigns. Whether there is a socket is asked here, where a drop
 * can be put down to the endpoint.
 */
static __always_inline int send_to_bridge(struct __sk_buff *skb, struct context *context,
					  const struct settings *settings, __u32 verdict)
{
	struct bpf_sock *found = find_socket(skb, settings, &context->packet, verdict);

	if (!found)
		return PROXY_UNAVAILABLE;
	bpf_sk_release(found);
	if (bpf_redirect(context->endpoint.bridge, BPF_F_INGRESS) != TC_ACT_REDIRECT)
		return PROXY_UNAVAILABLE;
	set_mark(skb, settings, mark_of_verdict(settings, verdict));
	context->action = TC_ACT_REDIRECT;
	return PASSED;
}

/* Whether what has this verdict goes to a proxy. */
static __always_inline bool is_redirect(__u32 verdict)
{
	return verdict == VERDICT_DNS || verdict == VERDICT_PROXY;
}

/* Whether the proxy has a socket of its own for a packet's connection. */
__noinline int is_connected_to_proxy(struct __sk_buff *skb, const struct context *context)
{
	const struct settings *settings = find_settings();
	struct bpf_sock *found;

	if (!context || !settings)
		return false;
	found = find_connection(skb, settings, &context->packet);
	if (!found)
		return false;
	bpf_sk_release(found);
	return true;
}

__noinline int redirect(struct __sk_buff *skb, struct context *context, __u32 verdict)
{
	const struct settings *settings = find_settings();

	if (!context || !settings)
		return PROXY_UNAVAILABLE;
	if (context->endpoint.bridge)
		return send_to_bridge(skb, context, settings, verdict);
	return assign(skb, settings, &context->packet, verdict);
}
