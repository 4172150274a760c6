/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What one run of a program knows.
 *
 * The long way is cut into functions of global linkage, each of which the verifier goes through
 * once, whoever calls it (5.6; with pointers to memory 5.12). It knows nothing of their callers:
 * so each asks whether its pointers are there, and what passes between them holds no pointers.
 */
#pragma once

#include "maps.h"
#include "parse.h"

struct context {
	__u64 now;
	struct endpoint endpoint;
	struct packet packet;
	/* Whom the packet is for, once that is judged, and whether a service port told. */
	__u32 identity;
	bool frontend;
	/* The reason for which it would be dropped, were no policy audited. */
	__u8 audited;
	/* Whether it goes past the proxy that it should go to. */
	bool direct;
	/* Whether its flow lived before, under another verdict or for another reason. */
	bool again;
	/* An `enum frame`. */
	__u8 frame;
	/* Whether neither flow table knows the packet's flow. */
	bool first;
	/* What was done to the flow tables, to be counted. */
	bool inserted;
	bool removed;
	/* How the program ends if the packet may go on. */
	__s32 action;
};

static __always_inline const struct settings *find_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/* How an endpoint is judged: one word, so that no reader sees half of it. */
union judged {
	__u64 word;
	struct {
		__u32 enforcement;
		__u32 generation;
	};
};

/* Whose an element of `endpoints` is, and where its flows are: one word too. */
union place {
	__u64 word;
	struct {
		__u32 interface;
		__u32 slot;
	};
};

static __always_inline union judged judged_of(const struct endpoint *endpoint)
{
	return (union judged){ .word = *(const volatile __u64 *)&endpoint->enforcement };
}

static __always_inline union place place_of(const struct endpoint *endpoint)
{
	return (union place){ .word = *(const volatile __u64 *)&endpoint->interface };
}

/* The element that an interface has unless another one was there before. */
static __always_inline const struct endpoint *first_place(__u32 interface)
{
	__u32 index = interface & (ENDPOINT_PLACES - 1);

	return bpf_map_lookup_elem(&endpoints, &index);
}

static __always_inline bool is_closed(const struct endpoint *endpoint)
{
	return endpoint->enforcement >= ENFORCEMENT_CLOSED;
}

static __always_inline bool is_open(const struct endpoint *endpoint)
{
	return endpoint->enforcement == ENFORCEMENT_OPEN;
}

/*
 * Copies the interface's endpoint. An element is emptied, and no program holds it any more, before
 * it becomes another interface's or another endpoint's: so what is read here belongs together,
 * but that some of it may be empty already.
 */
static __always_inline bool find_endpoint(__u32 interface, struct endpoint *copy)
{
	for (__u32 i = 0; i < ENDPOINT_PROBES; i++) {
		const struct endpoint *found = first_place(interface + i);
		union place place;
		union judged judged;

		if (!found)
			return false;
		place = place_of(found);
		if (place.interface != interface)
			continue;
		judged = judged_of(found);
		copy->enforcement = judged.enforcement;
		copy->generation = judged.generation;
		copy->endpoint = *(const volatile __u32 *)&found->endpoint;
		copy->bridge = *(const volatile __u32 *)&found->bridge;
		copy->interface = interface;
		copy->slot = place.slot;
		return judged.enforcement != ENFORCEMENT_NONE && copy->endpoint;
	}
	return false;
}

static __always_inline struct counters *counters_of(__u32 endpoint)
{
	struct counters *own = bpf_map_lookup_elem(&counters, &endpoint);
	__u32 unknown = 0;

	return own ? own : bpf_map_lookup_elem(&counters, &unknown);
}
