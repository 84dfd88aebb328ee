"""A Ray cluster of several raylets on this machine, in a process of its own that takes orders.

    python fault_nodes.py TEMP_DIR

Prints the cluster's address; then, for each order that it reads::

    add NUM_CPUS     starts a node, and prints its id
    kill NODE_ID     kills all processes of a node with -9, and prints its id

At the end of its input it stops all nodes.
"""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster

STORE_BYTES = 100 * 2**20


def main() -> None:
    """Start the head, which has no CPU for workers, and take orders."""
    (temp_dir,) = sys.argv[1:]
    common = {"node_ip_address": "127.0.0.1", "object_store_memory": STORE_BYTES}
    head = {"num_cpus": 0, "temp_dir": temp_dir, "include_dashboard": False, **common}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    print(cluster.address, flush=True)
    nodes: dict[str, Any] = {}
    for order in sys.stdin:
        verb, what = order.split()
        if verb == "add":
            node = cluster.add_node(num_cpus=float(what), **common)
            nodes[node.node_id] = node
            print(node.node_id, flush=True)
        else:
            cluster.remove_node(nodes.pop(what), allow_graceful=False)
            print(what, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
