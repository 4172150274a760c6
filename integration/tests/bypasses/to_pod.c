/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Hands what comes for ADDRESS (of IPv4, in network order) to the other end of INTERFACE. */
#define SEC(name) __attribute__((section(name), used))

struct __sk_buff {
	unsigned int before[19];
	unsigned int data;
	unsigned int data_end;
};

static long (*redirect_peer)(unsigned int interface, unsigned long long flags) = (void *)155;

SEC("classifier")
int to_pod(struct __sk_buff *skb)
{
	unsigned char *data = (void *)(long)skb->data;
	unsigned char *end = (void *)(long)skb->data_end;
	unsigned int destination;

	if (data + 34 > end || data[12] != 0x08 || data[13] != 0)
		return -1;
	__builtin_memcpy(&destination, data + 30, 4);
	return destination == ADDRESS ? redirect_peer(INTERFACE, 0) : -1;
}

char LICENSE[] SEC("license") = "GPL";
