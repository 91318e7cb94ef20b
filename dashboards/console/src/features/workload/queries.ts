import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, keys } from "@/api/keys";
import { useRefresh } from "@/parts/page";

export const useWorkload = (cluster: ClusterId, ns: string, type: string, name: string) =>
  useQuery({
    queryKey: keys.workload(cluster, ns, type, name),
    queryFn: ({ signal }) =>
      body(
        client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/namespaces/{namespace}/workloads/{type}/{name}", {
          params: { path: { cluster, namespace: ns, type, name } },
          signal,
        }),
      ),
    refetchInterval: useRefresh(),
  });
