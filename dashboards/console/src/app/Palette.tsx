import { Kbd, Loader, Modal } from "@mantine/core";
import { IconBox, IconFileText, IconFolder, IconHexagons, IconPlugConnected, IconServer2, IconShieldCheck, IconStack2, IconTopologyStar3 } from "@tabler/icons-react";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useNavigate, useRouter } from "@tanstack/react-router";
import { type KeyboardEvent, useDeferredValue, useState } from "react";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { Found } from "@/api/types";
import { frame as m } from "@/i18n/frame";
import { closeDialog, openDialog } from "@/parts/dialogs";
import { home, setHome } from "@/parts/home";
import { useClusters, usePolicies } from "@/parts/queries";
import classes from "./Palette.module.css";
import { type Entry, find } from "./paletteModel";

const pages: Entry[] = [
  [m.pages.overview, "/"],
  [m.pages.clusters, "/clusters"],
  [m.pages.incidents, "/incidents"],
  [m.pages.logs, "/logs"],
  [m.pages.events, "/events"],
  [m.pages.policies, "/policies"],
  [m.palette.newPolicy, "/new/policy"],
  [m.pages.explore, "/explore"],
  [m.pages.boards, "/boards"],
  [m.palette.addCluster, "/settings"],
  [m.palette.notifications, "/notifications"],
].map(([name = "", to = ""]) => ({ key: `page ${name}`, kind: "page", name, place: "", to }));

const icons = {
  page: IconFileText,
  action: IconFileText,
  cluster: IconTopologyStar3,
  node: IconServer2,
  namespace: IconFolder,
  workload: IconStack2,
  service: IconPlugConnected,
  pod: IconBox,
  policy: IconShieldCheck,
} as const;

const limit = 40;
const enc = encodeURIComponent;

const pathOf = (f: Found): string => {
  const base = `/clusters/${enc(f.cluster)}`;
  const inside = `${base}/namespaces/${enc(f.namespace ?? "")}`;
  switch (f.kind) {
    case "node":
      return `${base}/nodes/${enc(f.name)}`;
    case "namespace":
      return `${base}/namespaces/${enc(f.name)}`;
    case "workload":
      return `${inside}/workloads/${enc(f.type ?? "")}/${enc(f.name)}`;
    case "service":
      return `${inside}/services/${enc(f.name)}`;
    case "pod":
      return `${inside}/pods/${enc(f.name)}`;
  }
};

/** Objects whose names have the words. The server searches: a fleet has more of them than a page should load. */
function useObjects(words: string): { entries: Entry[]; loading: boolean } {
  const found = useQuery({
    queryKey: keys.objectSearch(words),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/object-search", { params: { query: { q: words, limit } }, signal }))),
    enabled: words !== "",
    staleTime: 10_000,
    placeholderData: keepPreviousData,
  });
  const entries = (words === "" ? [] : (found.data ?? [])).map(
    (f): Entry => ({ key: `${f.cluster} ${f.kind} ${f.namespace ?? ""} ${f.type ?? ""} ${f.name}`, kind: f.kind, name: f.name, place: [f.cluster, f.namespace, f.type].filter(Boolean).join(" ▸ "), to: pathOf(f) }),
  );
  return { entries, loading: found.isFetching };
}

/** Finds any page, cluster, node, workload, pod or policy by name. */
export default function Palette() {
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  const deferred = useDeferredValue(typed);
  const clusters = useClusters();
  const policies = usePolicies();
  const navigate = useNavigate();
  const router = useRouter();
  const objects = useObjects(deferred.trim());
  const actions: Entry[] = [
    { key: "home", kind: "action", name: m.palette.makeHome, place: "", to: "", run: () => setHome(router.state.location.href) },
    ...(home() === undefined ? [] : [{ key: "home-off", kind: "action" as const, name: m.palette.noHome, place: "", to: "", run: () => setHome(undefined) }]),
    { key: "keys", kind: "action", name: m.palette.keys, place: "", to: "", run: () => openDialog("keys") },
  ];

  const entries: Entry[] = [
    ...pages,
    ...actions,
    ...(clusters.data ?? []).map((c): Entry => ({ key: `cluster ${c.id}`, kind: "cluster", name: c.name, place: c.sentence, to: `/clusters/${enc(c.id)}` })),
    ...objects.entries,
    ...(policies.data ?? []).map((p): Entry => ({ key: `policy ${p.metadata.name}`, kind: "policy", name: p.metadata.name, place: "", to: `/policies/${enc(p.metadata.name)}` })),
  ];
  const found = find(entries, deferred, limit);
  const active = Math.min(at, found.length - 1);

  const open = (entry: Entry | undefined) => {
    if (!entry) return;
    closeDialog();
    if (entry.run) entry.run();
    else void navigate({ to: entry.to, search: ({ from, to, refresh }) => ({ from, to, refresh }) });
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
    <Modal opened onClose={closeDialog} withCloseButton={false} padding={0} size={620} yOffset="12vh" transitionProps={{ duration: 0 }} attributes={{ content: { "aria-label": m.palette.label } }}>
      <div className={classes.field}>
        <input
          data-autofocus
          className={classes.input}
          role="combobox"
          aria-expanded
          aria-controls="palette-list"
          aria-activedescendant={found.length > 0 ? `palette-${active}` : undefined}
          aria-label={m.palette.field}
          placeholder={m.palette.placeholder}
          value={typed}
          data-behind={typed !== deferred || undefined}
          onChange={(e) => {
            setTyped(e.currentTarget.value);
            setAt(0);
          }}
          onKeyDown={onKeyDown}
          spellCheck={false}
          autoComplete="off"
        />
        {objects.loading ? <Loader size={14} color="gray" /> : null}
        <Kbd size="xs">{m.palette.esc}</Kbd>
      </div>
      <div className={classes.list} id="palette-list" role="listbox" aria-label={m.palette.found}>
        {found.length === 0 ? (
          <div className={classes.none}>
            <IconHexagons size={16} aria-hidden /> {objects.loading ? m.palette.searching : m.palette.nothing(deferred)}
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
              <span className={classes.kind}>{m.palette.kinds[e.kind]}</span>
            </div>
          );
        })}
      </div>
    </Modal>
  );
}
