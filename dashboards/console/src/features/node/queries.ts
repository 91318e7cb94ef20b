import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, keys } from "@/api/keys";
import { useRefresh } from "@/parts/page";

export const useNode = (cluster: ClusterId, node: string) =>
  useQuery({
    queryKey: keys.node(cluster, node),
    queryFn: ({ signal }) =>
      body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/nodes/{node}", { params: { path: { cluster, node } }, signal })),
    refetchInterval: useRefresh(),
  });
