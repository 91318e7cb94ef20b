import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { keys } from "@/api/keys";
import { useRefresh } from "@/parts/page";

export const usePolicy = (name: string) =>
  useQuery({
    queryKey: keys.policy(name),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/policies/{name}", { params: { path: { name } }, signal })),
    refetchInterval: useRefresh(),
  });
