import { Button, Loader, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";
import { body, client } from "@/api/client";
import { Card, Command } from "@/ui/Bits";
import { StateLabel } from "@/ui/state";
import classes from "./overview.module.css";

/** An ingest token of the cluster. The server shows it once. */
const useNewIngestToken = () =>
  useMutation({
    mutationFn: (cluster: string) =>
      body(client.POST("/apis/crowsnest.dev/v1/tokens", { body: { kind: "ingest", cluster, name: `collector of ${cluster}` } })),
  });

/** No cluster yet: the one command that adds the first. The page turns by itself once data is there. */
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
            <p className={classes.waiting} role="status">
              <Loader size={14} color="gray" /> Waiting for the first data of {cluster}. This page turns live when it arrives. The token is shown this once.
            </p>
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
