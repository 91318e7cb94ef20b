import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, keys } from "@/api/keys";
import { useRefresh } from "@/parts/page";

export const useService = (cluster: ClusterId, namespace: string, service: string) =>
  useQuery({
    queryKey: keys.service(cluster, namespace, service),
    queryFn: ({ signal }) =>
      body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/namespaces/{namespace}/services/{service}", { params: { path: { cluster, namespace, service } }, signal })),
    refetchInterval: useRefresh(),
  });
