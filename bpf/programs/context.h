/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What one run of a program knows.
 */
#pragma once

#include "maps.h"
#include "parse.h"

struct context {
	const struct settings *settings;
	__u64 now;
	struct endpoint endpoint;
	/* Whom the packet is for, once that is judged, and whether a service port told. */
	__u32 identity;
	bool frontend;
	struct packet packet;
};

static __always_inline bool is_closed(const struct endpoint *endpoint)
{
	return endpoint->enforcement >= ENFORCEMENT_CLOSED;
}

static __always_inline bool is_open(const struct endpoint *endpoint)
{
	return endpoint->enforcement == ENFORCEMENT_OPEN;
}

/*
 * Copies the interface's endpoint. A hash element may be reused for another key while it is read;
 * its copy of the key, read last, tells.
 */
static __always_inline bool find_endpoint(__u32 interface, struct endpoint *copy)
{
	struct endpoint *found = bpf_map_lookup_elem(&endpoints, &interface);
	__u64 judged;

	if (!found)
		return false;
	judged = *(volatile __u64 *)&found->enforcement;
	copy->enforcement = (__u32)judged;
	copy->generation = judged >> 32;
	copy->endpoint = *(volatile __u32 *)&found->endpoint;
	copy->bridge = *(volatile __u32 *)&found->bridge;
	copy->interface = *(volatile __u32 *)&found->interface;
	return copy->interface == interface;
}

static __always_inline struct counters *counters_of(__u32 endpoint)
{
	return bpf_map_lookup_elem(&counters, &endpoint);
}
