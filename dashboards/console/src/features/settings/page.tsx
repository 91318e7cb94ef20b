import { Button, Modal, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { Token } from "@/api/types";
import { help } from "@/i18n/help";
import { settings as m } from "@/i18n/settings";
import { AddCluster } from "@/parts/clusters/AddCluster";
import { Page, useRefresh } from "@/parts/page";
import { useSetSearch } from "@/parts/search";
import { Card, Command, Fact, Facts, Section } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, bytes, count, instant, unknown } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import { LanguageChoice } from "./LanguageChoice";
import classes from "./settings.module.css";

const route = getRouteApi("/settings");

const useStatus = () =>
  useQuery({
    queryKey: keys.status(),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/status", { signal })),
    refetchInterval: useRefresh(),
  });

const useTokens = () =>
  useQuery({
    queryKey: keys.tokens(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/tokens", { signal }))),
    refetchInterval: useRefresh(),
  });

/** The server itself, its clusters' way in, and its tokens. */
export function SettingsPage() {
  const status = useStatus();
  const now = useNow();
  const s = status.data;
  const broken = (s?.parts ?? []).filter((p) => !p.ready);
  return (
    <Page
      title={m.title}
      loading={!s && !status.error}
      sentence={s ? (broken.length > 0 ? m.broken(broken.map((p) => `${p.name}${p.reason ? ` (${p.reason})` : ""}`).join(", ")) : s.open ? m.wholeOpen : m.whole) : undefined}
    >
      <AddCluster />
      <Section title={m.server}>
        <Loaded query={status} what={m.theServer} skeleton={<TableSkeleton rows={2} />}>
          {(d) => (
            <Card>
              <Facts>
                <Fact label={m.version}>{d.version}</Fact>
                <Fact label={m.upFor}>{age(d.started_at, now)}</Fact>
                <Fact label={m.youAre}>{d.principal.name || d.principal.kind.replaceAll("_", " ")}</Fact>
                {d.simulated ? <Fact label={m.data}>{m.simulated}</Fact> : null}
                {d.stores.map((store) => (
                  <Fact key={store.name} label={store.name}>
                    {store.read_only ? <StateLabel state="critical">{m.readOnly(store.read_only)}</StateLabel> : store.bytes === undefined ? unknown : bytes(store.bytes)}
                    {store.series === undefined ? "" : m.series(count(store.series))}
                    {store.rows === undefined ? "" : m.rows(count(store.rows))}
                  </Fact>
                ))}
              </Facts>
            </Card>
          )}
        </Loaded>
      </Section>
      <Tokens />
      <LanguageChoice />
      <p>
        <Link to="/help/$" params={{ _splat: "README" }}>
          {help.title}: {help.guides}
        </Link>
      </p>
    </Page>
  );
}

function Tokens() {
  const search = route.useSearch();
  const set = useSetSearch<typeof search>();
  const tokens = useTokens();
  const queries = useQueryClient();
  const now = useNow();
  const [making, setMaking] = useState(false);
  const revoke = useMutation({
    mutationFn: (id: string) => client.DELETE("/apis/crowsnest.dev/v1/tokens/{id}", { params: { path: { id } } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.tokens() }),
  });
  const columns: Column<Token>[] = [
    { id: "name", header: m.tokens.token, width: "minmax(140px, 2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (t) => t.name, cell: (t) => t.name },
    { id: "kind", header: m.tokens.may, width: "130px", phoneWidth: "90px", sort: (t) => t.kind, cell: (t) => (t.kind === "ingest" ? m.tokens.send : m.tokens.use) },
    { id: "cluster", header: m.tokens.cluster, wide: true, width: "minmax(90px, 1fr)", sort: (t) => t.cluster, cell: (t) => t.cluster },
    { id: "created", header: m.tokens.made, numeric: true, wide: true, width: "90px", sort: (t) => instant(t.created_at), cell: (t) => age(t.created_at, now) },
    { id: "used", header: m.tokens.lastUsed, numeric: true, wide: true, width: "90px", sort: (t) => instant(t.last_used_at), cell: (t) => (t.last_used_at ? age(t.last_used_at, now) : m.tokens.never) },
    {
      id: "revoke",
      header: "",
      width: "84px",
      phoneWidth: "76px",
      cell: (t) => (
        <Button
          size="compact-xs"
          variant="default"
          aria-label={m.tokens.revokeLabel(t.name)}
          onClick={() => {
            if (globalThis.confirm(m.tokens.confirm(t.name))) revoke.mutate(t.id);
          }}
        >
          {m.tokens.revoke}
        </Button>
      ),
    },
  ];
  return (
    <Section
      title={m.tokens.title}
      note={tokens.data ? count(tokens.data.length) : undefined}
      right={
        <Button size="xs" variant="default" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          {m.tokens.new}
        </Button>
      }
    >
      {revoke.error ? <StateLabel state="critical">{revoke.error.message}</StateLabel> : null}
      <Loaded query={tokens} what={m.tokens.title} skeleton={<TableSkeleton rows={3} />}>
        {(all) => (
          <DataTable
            label={m.tokens.label}
            columns={columns}
            rows={all}
            rowKey={(t) => t.id}
            sort={parseSort(search.sort, { column: "name", descending: false })}
            onSort={(s) => set({ sort: sortText(s) })}
            empty={m.tokens.none}
          />
        )}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title={m.tokens.new} centered>
        <NewToken />
      </Modal>
    </Section>
  );
}

function NewToken() {
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const create = useMutation({
    mutationFn: () => body(client.POST("/apis/crowsnest.dev/v1/tokens", { body: { kind: "api", name } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.tokens() }),
  });
  return (
    <form
      className={classes.stack}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        create.mutate();
      }}
    >
      {create.data ? (
        <>
          <p>{m.tokens.once}</p>
          <Command>{create.data.token}</Command>
          <p className={classes.quiet}>{m.tokens.after}</p>
        </>
      ) : (
        <>
          <p className={classes.quiet}>{m.tokens.before}</p>
          <TextInput label={m.tokens.name} data-autofocus value={name} maxLength={100} onChange={(e) => setName(e.currentTarget.value)} />
          {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
          <div>
            <Button size="xs" type="submit" disabled={name.trim() === ""} loading={create.isPending}>
              {m.tokens.make}
            </Button>
          </div>
        </>
      )}
    </form>
  );
}
