import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, keys } from "@/api/keys";
import { useRefresh } from "@/parts/page";

export const useNamespace = (cluster: ClusterId, namespace: string) =>
  useQuery({
    queryKey: keys.namespace(cluster, namespace),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/namespaces/{namespace}", { params: { path: { cluster, namespace } }, signal })),
    refetchInterval: useRefresh(),
  });
