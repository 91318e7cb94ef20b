import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { components } from "@/api/schema";
import type { Incident, IncidentDetail } from "@/api/types";
import { useRefresh } from "@/parts/page";

// What people do with incidents. Each answer is the incident as it is then.

function useChanged() {
  const queries = useQueryClient();
  return async (detail: IncidentDetail) => {
    queries.setQueryData(keys.incident(detail.incident.id), detail);
    await Promise.all([queries.invalidateQueries({ queryKey: ["incidents"] }), queries.invalidateQueries({ queryKey: ["incident"] })]);
  };
}

export type Action = "acknowledge" | "unacknowledge" | "resolve" | "comment" | "assign";

export function useIncidentAction() {
  const changed = useChanged();
  return useMutation({
    mutationFn: ({ id, action, text }: { id: string; action: Action; text: string }) => {
      const params = { path: { id } };
      switch (action) {
        case "acknowledge":
          return body(client.POST("/apis/crowsnest.dev/v1/incidents/{id}/acknowledge", { params, body: text === "" ? {} : { comment: text } }));
        case "unacknowledge":
          return body(client.POST("/apis/crowsnest.dev/v1/incidents/{id}/unacknowledge", { params }));
        case "resolve":
          return body(client.POST("/apis/crowsnest.dev/v1/incidents/{id}/resolve", { params, body: text === "" ? {} : { comment: text } }));
        case "comment":
          return body(client.POST("/apis/crowsnest.dev/v1/incidents/{id}/comments", { params, body: { text } }));
        case "assign":
          return body(client.POST("/apis/crowsnest.dev/v1/incidents/{id}/assign", { params, body: { assignee: text } }));
      }
    },
    onSuccess: changed,
  });
}

export const useTimeline = (id: string) =>
  useQuery({
    queryKey: keys.timeline(id),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/incidents/{id}/timeline", { params: { path: { id } }, signal }))),
    refetchInterval: useRefresh(),
  });

export type Silence = components["schemas"]["Silence"];

/** Matchers that mute what an incident is about, and no more: its labels. */
export function silenceMatchers(i: Incident): string[] {
  const { object: o } = i;
  const named: Record<string, string | undefined> = { cluster: i.cluster.id, namespace: o.namespace, workload_type: o.workload_type, workload: o.workload, ...(o.workload ? {} : { pod: o.pod, node: o.node }) };
  return Object.entries(named).flatMap(([k, v]) => (v === undefined || v === "" ? [] : [`${k}=${JSON.stringify(v)}`]));
}

/** A name that no other silence has: what it is about, and when it was made. */
export function silenceName(words: string, now: Date): string {
  const base = words.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 40) || "silence";
  return `${base}-${now.toISOString().slice(0, 19).replace(/[^0-9]/g, "")}`;
}

export function useSilence() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ words, matchers, seconds, comment }: { words: string; matchers: string[]; seconds: number; comment: string }) => {
      const now = new Date();
      return body(
        client.POST("/apis/crowsnest.dev/v1/silences", {
          body: {
            apiVersion: "crowsnest.dev/v1",
            kind: "Silence",
            metadata: { name: silenceName(words, now) },
            spec: { matchers, until: new Date(now.getTime() + seconds * 1000).toISOString(), ...(comment === "" ? {} : { comment }) },
          },
        }),
      );
    },
    onSuccess: () => Promise.all([queries.invalidateQueries({ queryKey: ["silences"] }), queries.invalidateQueries({ queryKey: ["incident"] }), queries.invalidateQueries({ queryKey: ["incidents"] })]),
  });
}
