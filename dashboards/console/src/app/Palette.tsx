import { Kbd, Loader, Modal } from "@mantine/core";
import { IconBox, IconFileText, IconHexagons, IconServer2, IconShieldCheck, IconStack2, IconTopologyStar3 } from "@tabler/icons-react";
import { useQueries } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type KeyboardEvent, useDeferredValue, useMemo, useState } from "react";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import { closePalette } from "@/parts/paletteStore";
import { useClusters, usePolicies } from "@/parts/queries";
import classes from "./Palette.module.css";
import { type Entry, find } from "./paletteModel";

const pages: Entry[] = [
  ["Overview", "/"],
  ["Clusters", "/clusters"],
  ["Incidents", "/incidents"],
  ["Logs", "/logs"],
  ["Events", "/events"],
  ["Policies", "/policies"],
  ["New policy", "/new/policy"],
  ["Explore", "/explore"],
  ["Boards", "/boards"],
  ["Settings: add a cluster, tokens", "/settings"],
  ["Notifications: targets, deliveries, silences, maintenance", "/notifications"],
].map(([name = "", to = ""]) => ({ key: `page ${name}`, kind: "page", name, place: "", to }));

const icons = {
  page: IconFileText,
  action: IconFileText,
  cluster: IconTopologyStar3,
  node: IconServer2,
  workload: IconStack2,
  pod: IconBox,
  policy: IconShieldCheck,
} as const;

const limit = 40;
const enc = encodeURIComponent;

/** Objects of all clusters, asked for while the palette is open and kept for a minute. */
function useObjects(clusters: readonly string[], wanted: boolean): { entries: Entry[]; loading: boolean } {
  const path = (cluster: string) => ({ path: { cluster } });
  const common = { staleTime: 60_000, enabled: wanted };
  const nodes = useQueries({
    queries: clusters.map((cluster) => ({
      ...common,
      queryKey: keys.nodes(cluster),
      queryFn: async () => items(await body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/nodes", { params: path(cluster) }))),
    })),
  });
  const workloads = useQueries({
    queries: clusters.map((cluster) => ({
      ...common,
      queryKey: keys.workloads(cluster),
      queryFn: async () => items(await body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/workloads", { params: path(cluster) }))),
    })),
  });
  const pods = useQueries({
    queries: clusters.map((cluster) => ({
      ...common,
      queryKey: keys.pods(cluster, {}),
      queryFn: async () => items(await body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/pods", { params: path(cluster) }))),
    })),
  });
  const entries = clusters.flatMap((cluster, i): Entry[] => {
    const base = `/clusters/${enc(cluster)}`;
    return [
      ...(nodes[i]?.data ?? []).map((n): Entry => ({ key: `${cluster} node ${n.name}`, kind: "node", name: n.name, place: cluster, to: `${base}/nodes/${enc(n.name)}` })),
      ...(workloads[i]?.data ?? []).map((w): Entry => ({
        key: `${cluster} ${w.namespace} ${w.type}/${w.name}`,
        kind: "workload",
        name: w.name,
        place: `${cluster} ▸ ${w.namespace} ▸ ${w.type}`,
        to: `${base}/namespaces/${enc(w.namespace)}/workloads/${enc(w.type)}/${enc(w.name)}`,
      })),
      ...(pods[i]?.data ?? []).map((p): Entry => ({
        key: `${cluster} ${p.namespace} pod ${p.name}`,
        kind: "pod",
        name: p.name,
        place: `${cluster} ▸ ${p.namespace}`,
        to: `${base}/namespaces/${enc(p.namespace)}/pods/${enc(p.name)}`,
      })),
    ];
  });
  return { entries, loading: [...nodes, ...workloads, ...pods].some((q) => q.isLoading) };
}

/** Finds any page, cluster, node, workload, pod or policy by name. */
export default function Palette() {
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  const deferred = useDeferredValue(typed);
  const clusters = useClusters();
  const policies = usePolicies();
  const navigate = useNavigate();
  const ids = useMemo(() => (clusters.data ?? []).map((c) => c.id), [clusters.data]);
  const objects = useObjects(ids, typed.trim() !== "");

  const entries: Entry[] = [
    ...pages,
    ...(clusters.data ?? []).map((c): Entry => ({ key: `cluster ${c.id}`, kind: "cluster", name: c.name, place: c.sentence, to: `/clusters/${enc(c.id)}` })),
    ...objects.entries,
    ...(policies.data ?? []).map((p): Entry => ({ key: `policy ${p.metadata.name}`, kind: "policy", name: p.metadata.name, place: "", to: `/policies/${enc(p.metadata.name)}` })),
  ];
  const found = find(entries, deferred, limit);
  const active = Math.min(at, found.length - 1);

  const open = (entry: Entry | undefined) => {
    if (!entry) return;
    closePalette();
    void navigate({ to: entry.to, search: ({ from, to, refresh }) => ({ from, to, refresh }) });
  };
  const onKeyDown = (e: KeyboardEvent) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      const next = (active + (e.key === "ArrowDown" ? 1 : -1) + found.length) % Math.max(1, found.length);
      setAt(next);
      document.getElementById(`palette-${next}`)?.scrollIntoView({ block: "nearest" });
    } else if (e.key === "Enter") {
      e.preventDefault();
      open(found[active]);
    }
  };

  return (
    <Modal opened onClose={closePalette} withCloseButton={false} padding={0} size={620} yOffset="12vh" transitionProps={{ duration: 0 }} attributes={{ content: { "aria-label": "find anything" } }}>
      <div className={classes.field}>
        <input
          data-autofocus
          className={classes.input}
          role="combobox"
          aria-expanded
          aria-controls="palette-list"
          aria-activedescendant={found.length > 0 ? `palette-${active}` : undefined}
          aria-label="find a page, cluster, node, workload, pod or policy"
          placeholder="Find a page, cluster, node, workload, pod, policy…"
          value={typed}
          onChange={(e) => {
            setTyped(e.currentTarget.value);
            setAt(0);
          }}
          onKeyDown={onKeyDown}
          spellCheck={false}
          autoComplete="off"
        />
        {objects.loading ? <Loader size={14} color="gray" /> : null}
        <Kbd size="xs">Esc</Kbd>
      </div>
      <div className={classes.list} id="palette-list" role="listbox" aria-label="found">
        {found.length === 0 ? (
          <div className={classes.none}>
            <IconHexagons size={16} aria-hidden /> {objects.loading ? "Searching…" : `Nothing is called “${deferred}”.`}
          </div>
        ) : null}
        {found.map((e, i) => {
          const Icon = icons[e.kind];
          return (
            <div
              key={e.key}
              id={`palette-${i}`}
              role="option"
              aria-selected={i === active}
              className={classes.entry}
              onPointerMove={() => setAt(i)}
              onClick={() => open(e)}
            >
              <Icon size={16} stroke={1.6} aria-hidden />
              <span className={classes.name}>{e.name}</span>
              <span className={classes.place}>{e.place}</span>
              <span className={classes.kind}>{e.kind}</span>
            </div>
          );
        })}
      </div>
    </Modal>
  );
}
