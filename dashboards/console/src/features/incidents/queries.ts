import { useQuery } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { keys } from "@/api/keys";
import { useRefresh } from "@/parts/page";

export const useIncident = (id: string) =>
  useQuery({
    queryKey: keys.incident(id),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/incidents/{id}", { params: { path: { id } }, signal })),
    refetchInterval: useRefresh(),
  });
