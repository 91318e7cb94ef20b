import { Button, Loader, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";
import { body, client } from "@/api/client";
import { useClusters } from "@/parts/queries";
import { Card, Command } from "@/ui/Bits";
import { StateLabel, stateOf } from "@/ui/state";
import { ClusterLink } from "@/parts/objects/links";
import { plural } from "@/ui/format";
import classes from "./clusters.module.css";

/** An ingest token of the cluster. The server shows it once. */
const useNewIngestToken = () =>
  useMutation({
    mutationFn: (cluster: string) =>
      body(client.POST("/apis/crowsnest.dev/v1/tokens", { body: { kind: "ingest", cluster, name: `collector of ${cluster}` } })),
  });

/** Waits for a cluster's first data, and says when it is there. */
function Arrival({ cluster }: { cluster: string }) {
  const clusters = useClusters(2000);
  const c = clusters.data?.find((x) => x.id === cluster);
  const pods = Object.values(c?.pods ?? {}).reduce((a, b) => a + b, 0);
  return (
    <p className={classes.waiting} role="status">
      {c && stateOf(c.state) !== "waiting" && pods > 0 ? (
        <StateLabel state="ok">
          <ClusterLink cluster={cluster}>{c.name}</ClusterLink> is there: {plural(c.nodes.total, "node")}, {plural(c.workloads.total, "workload")}, {plural(pods, "pod")}.
        </StateLabel>
      ) : (
        <>
          <Loader size={14} color="gray" /> {c ? `${cluster} has connected; waiting for its first objects.` : `Waiting for the first data of ${cluster}.`} The token is shown this once.
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
        <h2>Add a cluster</h2>
        <p>Name it, and run the command where kubectl works. It reads the cluster of your kubeconfig, changes nothing in it, and sends here.</p>
        <form onSubmit={submit} className={classes.addForm}>
          <TextInput
            label="Cluster id"
            size="sm"
            value={cluster}
            onChange={(e) => setCluster(e.currentTarget.value)}
            error={valid ? undefined : "a-z, 0-9 and dashes, at most 63"}
            description="It names the cluster in every URL and label, and never changes."
            spellCheck={false}
          />
          <Button type="submit" size="sm" disabled={!valid} loading={token.isPending}>
            Make the command
          </Button>
        </form>
        {token.error ? <StateLabel state="warning">{token.error.message}</StateLabel> : null}
        {token.data ? (
          <>
            <Command>{`crowsnest-collector --role all --server ${globalThis.location.origin} --token ${token.data.token}`}</Command>
            <Arrival cluster={token.variables} />
          </>
        ) : null}
        <p className={classes.quiet}>
          To run the collector inside the cluster, see deploy/manifests. To look around first, <code>crowsnest run --simulate</code> shows a
          simulated fleet.
        </p>
      </div>
    </Card>
  );
}
