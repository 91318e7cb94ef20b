import { Button, Modal, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { Token } from "@/api/types";
import { AddCluster } from "@/parts/clusters/AddCluster";
import { Page, useRefresh } from "@/parts/page";
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
      title="Settings"
      loading={!s && !status.error}
      sentence={s ? (broken.length > 0 ? `The server is not whole: ${broken.map((p) => `${p.name}${p.reason ? ` (${p.reason})` : ""}`).join(", ")}.` : `The server is whole${s.open ? "; it asks for no credentials, and listens on this machine only" : ""}.`) : undefined}
    >
      <AddCluster />
      <Section title="Server">
        <Loaded query={status} what="The server's state" skeleton={<TableSkeleton rows={2} />}>
          {(d) => (
            <Card>
              <Facts>
                <Fact label="Version">{d.version}</Fact>
                <Fact label="Up for">{age(d.started_at, now)}</Fact>
                <Fact label="You are">{d.principal.name || d.principal.kind.replaceAll("_", " ")}</Fact>
                {d.simulated ? <Fact label="Data">simulated</Fact> : null}
                {d.stores.map((store) => (
                  <Fact key={store.name} label={store.name}>
                    {store.read_only ? <StateLabel state="critical">read only: {store.read_only}</StateLabel> : store.bytes === undefined ? unknown : bytes(store.bytes)}
                    {store.series === undefined ? "" : `, ${count(store.series)} series`}
                    {store.rows === undefined ? "" : `, ${count(store.rows)} rows`}
                  </Fact>
                ))}
              </Facts>
            </Card>
          )}
        </Loaded>
      </Section>
      <Tokens />
      <LanguageChoice />
    </Page>
  );
}

function Tokens() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const tokens = useTokens();
  const queries = useQueryClient();
  const now = useNow();
  const [making, setMaking] = useState(false);
  const revoke = useMutation({
    mutationFn: (id: string) => client.DELETE("/apis/crowsnest.dev/v1/tokens/{id}", { params: { path: { id } } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.tokens() }),
  });
  const columns: Column<Token>[] = [
    { id: "name", header: "Token", width: "minmax(140px, 2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (t) => t.name, cell: (t) => t.name },
    { id: "kind", header: "May", width: "130px", phoneWidth: "90px", sort: (t) => t.kind, cell: (t) => (t.kind === "ingest" ? "send data" : "use the API") },
    { id: "cluster", header: "Cluster", wide: true, width: "minmax(90px, 1fr)", sort: (t) => t.cluster, cell: (t) => t.cluster },
    { id: "created", header: "Made", numeric: true, wide: true, width: "90px", sort: (t) => instant(t.created_at), cell: (t) => age(t.created_at, now) },
    { id: "used", header: "Last used", numeric: true, wide: true, width: "90px", sort: (t) => instant(t.last_used_at), cell: (t) => (t.last_used_at ? age(t.last_used_at, now) : "never") },
    {
      id: "revoke",
      header: "",
      width: "84px",
      phoneWidth: "76px",
      cell: (t) => (
        <Button
          size="compact-xs"
          variant="default"
          aria-label={`revoke ${t.name}`}
          onClick={() => {
            if (globalThis.confirm(`Revoke “${t.name}”? Whoever uses it is refused at once.`)) revoke.mutate(t.id);
          }}
        >
          Revoke
        </Button>
      ),
    },
  ];
  return (
    <Section
      title="Tokens"
      note={tokens.data ? count(tokens.data.length) : undefined}
      right={
        <Button size="xs" variant="default" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          New API token
        </Button>
      }
    >
      {revoke.error ? <StateLabel state="critical">{revoke.error.message}</StateLabel> : null}
      <Loaded query={tokens} what="Tokens" skeleton={<TableSkeleton rows={3} />}>
        {(all) => (
          <DataTable
            label="tokens"
            columns={columns}
            rows={all}
            rowKey={(t) => t.id}
            sort={parseSort(search.sort, { column: "name", descending: false })}
            onSort={(s) => void navigate({ search: (old) => ({ ...old, sort: sortText(s) }), replace: true, resetScroll: false })}
            empty="There is no token."
          />
        )}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title="New API token" centered>
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
          <p>It is shown this once:</p>
          <Command>{create.data.token}</Command>
          <p className={classes.quiet}>From now on the server asks for a token with every request.</p>
        </>
      ) : (
        <>
          <p className={classes.quiet}>Once an API token exists, the server asks for one with every request, also from this console.</p>
          <TextInput label="What it is for" data-autofocus value={name} maxLength={100} onChange={(e) => setName(e.currentTarget.value)} />
          {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
          <div>
            <Button size="xs" type="submit" disabled={name.trim() === ""} loading={create.isPending}>
              Make it
            </Button>
          </div>
        </>
      )}
    </form>
  );
}
