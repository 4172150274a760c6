/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The maps, all pinned by name. The daemon writes them and sets the sizes before loading; what the
 * programs themselves write is the inner maps of `flows4` and `flows6`, `fragments`, `counters`,
 * `budgets` and `events`.
 *
 * What every packet needs stands in arrays, whose look-ups the kernel puts into the program
 * itself: `endpoints`, by interface index from the place of its remainder on, and by slot the flow
 * tables and budgets.
 *
 * Kernels: array of maps 4.12, LPM trie 4.11, ring buffer 5.8, inner maps of differing size 5.10,
 * atomic or and compare-and-exchange 5.12.
 */
#pragma once

#include "abi.h"

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAP(map, kind, key_type, value_type, flags) MAP_OF(map, kind, 1, key_type, value_type, flags)

#define MAP_OF(map, kind, entries, key_type, value_type, flags) \
	struct {                                               \
		__uint(type, kind);                            \
		__uint(max_entries, entries);                  \
		__uint(key_size, sizeof(key_type));            \
		__uint(value_size, sizeof(value_type));        \
		__uint(map_flags, flags);                      \
		__uint(pinning, LIBBPF_PIN_BY_NAME);           \
	} map SEC(".maps")

#define FLOW_MAPS(map, key_type)                                              \
	struct {                                                              \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                      \
		__uint(max_entries, 1);                                       \
		__uint(key_size, sizeof(__u32));                              \
		__uint(value_size, sizeof(__u32));                            \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                          \
		__array(values, struct {                                      \
			__uint(type, BPF_MAP_TYPE_LRU_HASH);                  \
			__uint(max_entries, 1);                               \
			__uint(key_size, sizeof(key_type));                   \
			__uint(value_size, sizeof(struct flow));              \
		});                                                           \
	} map SEC(".maps")

MAP(settings, BPF_MAP_TYPE_ARRAY, __u32, struct settings, 0);
MAP_OF(endpoints, BPF_MAP_TYPE_ARRAY, ENDPOINT_PLACES, __u32, struct endpoint, 0);
MAP(sources, BPF_MAP_TYPE_LPM_TRIE, struct endpoint_address, __u32, BPF_F_NO_PREALLOC);
MAP(prefixes, BPF_MAP_TYPE_LPM_TRIE, struct address_prefix, struct prefix_entry,
    BPF_F_NO_PREALLOC);
MAP(frontends, BPF_MAP_TYPE_HASH, struct frontend, __u32, BPF_F_NO_PREALLOC);
MAP(rows, BPF_MAP_TYPE_LPM_TRIE, struct row, __u32, BPF_F_NO_PREALLOC);
MAP(leases, BPF_MAP_TYPE_LPM_TRIE, struct endpoint_address, struct lease, BPF_F_NO_PREALLOC);
MAP(shared, BPF_MAP_TYPE_HASH, struct shared, __u64, BPF_F_NO_PREALLOC);
MAP(names, BPF_MAP_TYPE_HASH, struct pair, struct name, BPF_F_NO_PREALLOC);
MAP(numbers, BPF_MAP_TYPE_HASH, struct pair, struct digest, BPF_F_NO_PREALLOC);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment, struct fragment_entry, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_HASH, __u32, struct counters, BPF_F_NO_PREALLOC);
MAP(budgets, BPF_MAP_TYPE_ARRAY, __u32, struct budget, 0);
FLOW_MAPS(flows4, struct flow_key4);
FLOW_MAPS(flows6, struct flow_key6);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");
