/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The layouts shared with the daemon; `abi/src/lib.rs` says the same in Rust and explains each
 * field. Every size and offset is asserted on both sides.
 */
#pragma once

#include <linux/types.h>
#include <stddef.h>

#define MAX_WORKERS 64
#define DROP_REASONS 32
#define EVENT_KINDS 2
#define V4_BITS 96

struct address {
	union {
		__u8 bytes[16];
		__u32 words[4];
	};
};

struct settings {
	__u64 tcp_idle_ns;
	__u64 handshake_idle_ns;
	__u64 udp_idle_ns;
	__u64 fresh_jiffies;
	__u64 event_interval_ns[EVENT_KINDS];
	__u32 event_burst[EVENT_KINDS];
	__u32 mark_mask;
	__u32 mark_redirect;
	__u32 mark_answer;
	__u32 udp_workers;
	__u32 tcp_workers;
	__be16 udp_ports_be[MAX_WORKERS];
	__be16 tcp_ports_be[MAX_WORKERS];
	__u32 l7_listeners;
	__be16 l7_ports_be[MAX_WORKERS];
};

#define ENFORCEMENT_NONE 0u
#define ENFORCEMENT_OPEN 0xfffffe00u
#define ENFORCEMENT_CLOSED 0xffffff00u

#define ENDPOINT_PLACES 16384
#define ENDPOINT_PROBES 8

struct endpoint {
	__u32 enforcement;
	__u32 generation;
	__u32 endpoint;
	__u32 bridge;
	__u32 interface;
	__u32 slot;
} __attribute__((aligned(8)));

struct endpoint_address {
	__u32 bits;
	__u32 endpoint;
	struct address address;
};

struct address_prefix {
	__u32 bits;
	struct address address;
};

struct prefix_entry {
	__u32 identity;
	__u32 bits;
};

struct frontend {
	struct address address;
	__be16 port_be;
	__u8 protocol;
	__u8 pad;
};

struct row {
	__u32 bits;
	__u32 table;
	__u32 identity;
	__u8 protocol;
	__u8 pad;
	__be16 port_be;
};

struct lease {
	__u64 expires_ns;
	__u32 sets[2];
	__u32 name;
	__u32 pad;
};

struct shared {
	__u32 endpoint;
	__u32 name;
	struct address address;
};

struct pair {
	__u32 first;
	__u32 second;
};

struct name {
	__u8 length;
	__u8 wire[255];
};

struct digest {
	__u8 bytes[16];
};

struct flow_key4 {
	__be32 local;
	__be32 remote;
	__be16 local_port_be;
	__be16 remote_port_be;
	__u8 protocol;
	__u8 pad[3];
};

struct flow_key6 {
	struct address local;
	struct address remote;
	__be16 local_port_be;
	__be16 remote_port_be;
	__u8 protocol;
	__u8 pad[3];
};

#define FLOW_VERDICT 0xffu
#define FLOW_REPLIED (1u << 8)
#define FLOW_FIN_LOCAL (1u << 9)
#define FLOW_FIN_REMOTE (1u << 10)
#define FLOW_RESET (1u << 11)
#define FLOW_AUDITED 0xff0000u
#define FLOW_AUDITED_SHIFT 16

struct flow {
	__u64 seen_ns;
	__u64 seen_jiffies;
	__u32 generation;
	__u32 bits;
};

struct fragment {
	__u32 endpoint;
	__u32 identification;
	struct address source;
	struct address destination;
	__u8 protocol;
	__u8 pad[3];
};

struct fragment_entry {
	__u64 seen_ns;
	__u32 verdict;
	__u32 pad;
};

struct counters {
	__u64 drops[DROP_REASONS];
	__u64 audits[DROP_REASONS];
	__u64 inserted[2];
	__u64 removed[2];
	__u64 begun[2];
	__u64 redirected;
	__u64 inspected;
	__u64 events_suppressed[EVENT_KINDS];
	__u64 events_lost[EVENT_KINDS];
};

struct budget {
	__u64 full_at_ns[EVENT_KINDS];
};

#define EVENT_PARSED (1u << 0)
#define EVENT_TRANSPORT (1u << 1)
#define EVENT_FRONTEND (1u << 2)
#define EVENT_AGAIN (1u << 3)

struct event {
	__u64 time_ns;
	__u32 endpoint;
	__u32 interface;
	__u32 length;
	__u32 identity;
	__u32 table;
	__be16 source_port_be;
	__be16 destination_port_be;
	struct address source;
	struct address destination;
	__u8 protocol;
	__u8 outcome;
	__u8 reason;
	__u8 direction;
	__u8 flags;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
};

enum event_kind {
	EVENT_DROP = 0,
	EVENT_FLOW = 1,
};

enum outcome {
	OUTCOME_FORWARDED = 1,
	OUTCOME_REDIRECTED = 2,
	OUTCOME_DROPPED = 3,
	OUTCOME_INSPECTED = 4,
	OUTCOME_AUDITED = 5,
};

enum direction {
	OUTBOUND = 0,
	INBOUND = 1,
};

enum verdict {
	VERDICT_NONE = 0,
	/* In rows only: what passes by it is as allowed. */
	VERDICT_UNRULED = 1,
	VERDICT_PROXY = 2,
	VERDICT_ALLOW = 3,
	VERDICT_DNS = 4,
	VERDICT_DENY = 5,
};

/* A row: its verdict, and what audited policies alone would drop. */
#define ROW_VERDICT 0xffu
#define AUDITED_DENY_RULE (1u << 8)
#define AUDITED_DEFAULT_DENY (1u << 9)

enum reason {
	PASSED = 0,
	POLICY_DENIED = 1,
	DENY_RULE = 2,
	SPOOFED_SOURCE = 3,
	MALFORMED = 4,
	UNSUPPORTED_HEADER = 5,
	UNSUPPORTED_ETHERTYPE = 6,
	FRAGMENT_TO_PROXY = 7,
	FRAGMENT_UNKNOWN = 8,
	PROXY_UNAVAILABLE = 9,
	NO_SERVICE = 10,
	ENDPOINT_CONFLICT = 11,
	ROUTER_MESSAGE = 12,
	LEASE_EXPIRED = 13,
	FLOW_TABLE = 14,
	ICMP_UNRELATED = 15,
	ENDPOINT_UNKNOWN = 16,
	ENDPOINT_PENDING = 17,
	QUIC_NOT_INSPECTED = 18,
};

enum identity {
	IDENTITY_ANY = 0,
	IDENTITY_WORLD = 2,
	IDENTITY_WORLD_IPV4 = 9,
	IDENTITY_WORLD_IPV6 = 10,
	IDENTITY_NO_SERVICE = 200,
};
#define IDENTITY_SCOPE_CIDR 1

#define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), "size of " #type)
#define AT(type, field, offset) \
	_Static_assert(offsetof(struct type, field) == (offset), "offset of " #type "." #field)

SIZE(settings, 464);
AT(settings, tcp_idle_ns, 0);
AT(settings, handshake_idle_ns, 8);
AT(settings, udp_idle_ns, 16);
AT(settings, fresh_jiffies, 24);
AT(settings, event_interval_ns, 32);
AT(settings, event_burst, 48);
AT(settings, mark_mask, 56);
AT(settings, mark_redirect, 60);
AT(settings, mark_answer, 64);
AT(settings, udp_workers, 68);
AT(settings, tcp_workers, 72);
AT(settings, udp_ports_be, 76);
AT(settings, tcp_ports_be, 204);
AT(settings, l7_listeners, 332);
AT(settings, l7_ports_be, 336);
SIZE(endpoint, 24);
AT(endpoint, enforcement, 0);
AT(endpoint, generation, 4);
AT(endpoint, endpoint, 8);
AT(endpoint, bridge, 12);
AT(endpoint, interface, 16);
AT(endpoint, slot, 20);
SIZE(endpoint_address, 24);
AT(endpoint_address, endpoint, 4);
AT(endpoint_address, address, 8);
SIZE(address_prefix, 20);
AT(address_prefix, address, 4);
SIZE(prefix_entry, 8);
AT(prefix_entry, bits, 4);
SIZE(frontend, 20);
AT(frontend, port_be, 16);
AT(frontend, protocol, 18);
SIZE(row, 16);
AT(row, table, 4);
AT(row, identity, 8);
AT(row, protocol, 12);
AT(row, port_be, 14);
SIZE(lease, 24);
AT(lease, sets, 8);
AT(lease, name, 16);
SIZE(shared, 24);
AT(shared, name, 4);
AT(shared, address, 8);
SIZE(pair, 8);
AT(pair, second, 4);
SIZE(name, 256);
AT(name, wire, 1);
SIZE(digest, 16);
SIZE(flow_key4, 16);
AT(flow_key4, remote, 4);
AT(flow_key4, local_port_be, 8);
AT(flow_key4, remote_port_be, 10);
AT(flow_key4, protocol, 12);
SIZE(flow_key6, 40);
AT(flow_key6, remote, 16);
AT(flow_key6, local_port_be, 32);
AT(flow_key6, remote_port_be, 34);
AT(flow_key6, protocol, 36);
SIZE(flow, 24);
AT(flow, seen_jiffies, 8);
AT(flow, generation, 16);
AT(flow, bits, 20);
SIZE(fragment, 44);
AT(fragment, identification, 4);
AT(fragment, source, 8);
AT(fragment, destination, 24);
AT(fragment, protocol, 40);
SIZE(fragment_entry, 16);
AT(fragment_entry, verdict, 8);
SIZE(counters, 608);
AT(counters, audits, 256);
AT(counters, inserted, 512);
AT(counters, removed, 528);
AT(counters, begun, 544);
AT(counters, redirected, 560);
AT(counters, inspected, 568);
AT(counters, events_suppressed, 576);
AT(counters, events_lost, 592);
SIZE(budget, 16);
SIZE(event, 72);
AT(event, endpoint, 8);
AT(event, interface, 12);
AT(event, length, 16);
AT(event, identity, 20);
AT(event, table, 24);
AT(event, source_port_be, 28);
AT(event, destination_port_be, 30);
AT(event, source, 32);
AT(event, destination, 48);
AT(event, protocol, 64);
AT(event, outcome, 65);
AT(event, reason, 66);
AT(event, direction, 67);
AT(event, flags, 68);
AT(event, tcp_flags, 69);
AT(event, icmp_type, 70);
AT(event, icmp_code, 71);

#undef SIZE
#undef AT
