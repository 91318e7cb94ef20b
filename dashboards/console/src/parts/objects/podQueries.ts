import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, keys } from "@/api/keys";
import { useRefresh } from "@/parts/page";

export const usePod = (cluster: ClusterId, ns: string, pod: string) =>
  useQuery({
    queryKey: keys.pod(cluster, ns, pod),
    queryFn: ({ signal }) =>
      body(
        client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/namespaces/{namespace}/pods/{pod}", {
          params: { path: { cluster, namespace: ns, pod } },
          signal,
        }),
      ),
    refetchInterval: useRefresh(),
  });
