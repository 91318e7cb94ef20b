import { Button, Loader, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";
import { body, client } from "@/api/client";
import { keys } from "@/api/keys";
import { clusters } from "@/i18n/clusters";
import { useClusters } from "@/parts/queries";
import { Card, Command } from "@/ui/Bits";
import { StateLabel, stateOf } from "@/ui/state";
import { ClusterLink } from "@/parts/objects/links";
import classes from "./clusters.module.css";

const m = clusters.add;
/** A command is the same in every language. */
const simulate = ["crowsnest", "run", "--simulate"].join(" ");

/** An ingest token of the cluster. The server shows it once. */
const useNewIngestToken = () => {
  const queries = useQueryClient();
  return useMutation({
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.tokens() }),
    mutationFn: (cluster: string) =>
      body(client.POST("/apis/crowsnest.dev/v1/tokens", { body: { kind: "ingest", cluster, name: m.token(cluster) } })),
  });
};

/** Waits for a cluster's first data, and says when it is there. */
function Arrival({ cluster }: { cluster: string }) {
  const clusters = useClusters(2000);
  const c = clusters.data?.find((x) => x.id === cluster);
  const pods = Object.values(c?.pods ?? {}).reduce((a, b) => a + b, 0);
  return (
    <p className={classes.waiting} role="status">
      {c && stateOf(c.state) !== "waiting" && pods > 0 ? (
        <StateLabel state="ok">
          {m.there(<ClusterLink cluster={cluster}>{c.name}</ClusterLink>, c.nodes.total, c.workloads.total, pods)}
        </StateLabel>
      ) : (
        <>
          <Loader size={14} color="gray" /> {c ? m.connected(cluster) : m.waiting(cluster)} {m.once}
        </>
      )}
    </p>
  );
}

/** The one command that adds a cluster, and word of its first data when it comes. */
export function AddCluster() {
  const [cluster, setCluster] = useState("my-cluster");
  const token = useNewIngestToken();
  const valid = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(cluster);
  const submit = (e: SyntheticEvent) => {
    e.preventDefault();
    if (valid) token.mutate(cluster);
  };
  return (
    <Card>
      <div className={classes.add}>
        <h2>{m.title}</h2>
        <p>{m.text}</p>
        <form onSubmit={submit} className={classes.addForm}>
          <TextInput
            label={m.id}
            size="sm"
            value={cluster}
            onChange={(e) => setCluster(e.currentTarget.value)}
            error={valid ? undefined : m.idRule}
            description={m.idText}
            spellCheck={false}
          />
          <Button type="submit" size="sm" disabled={!valid} loading={token.isPending}>
            {m.make}
          </Button>
        </form>
        {token.error ? <StateLabel state="warning">{token.error.message}</StateLabel> : null}
        {token.data ? (
          <>
            <Command>{["crowsnest-collector", "--role", "all", "--server", globalThis.location.origin, "--token", token.data.token].join(" ")}</Command>
            <Arrival cluster={token.variables} />
          </>
        ) : null}
        <p className={classes.quiet}>
          {m.inside(<code>{simulate}</code>)}
        </p>
      </div>
    </Card>
  );
}
