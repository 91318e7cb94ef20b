import { Loader } from "@mantine/core";
import { Card, Command } from "@/ui/Bits";
import classes from "./overview.module.css";

/** No cluster yet: how to add the first one. The page turns by itself once data is there. */
export function AddCluster() {
  return (
    <Card>
      <div className={classes.add}>
        <h2>Add a cluster</h2>
        <p>
          Type this where kubectl works. It reads the cluster of your kubeconfig, changes nothing in it, and sends here.
        </p>
        <Command>{`crowsnest-collector --server ${globalThis.location.origin} --role all`}</Command>
        <p className={classes.quiet}>
          For a cluster of any size, run the collector inside it: deploy/manifests has a DaemonSet and a Deployment. To look
          around first, <code>crowsnest run --simulate</code> shows a simulated fleet.
        </p>
        <p className={classes.waiting} role="status">
          <Loader size={14} color="gray" /> Waiting for the first data. This page turns live when it arrives.
        </p>
      </div>
    </Card>
  );
}
