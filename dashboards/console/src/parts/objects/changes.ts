import { quote } from "@/api/prometheus";

// Reasons of events that the collector makes of objects' changes, and of Kubernetes' own about nodes.
const reasons = [
  "RolloutStarted", "RolloutFinished", "ImageChanged", "Scaled", "NodeCordoned", "NodeUncordoned", "ScalingReplicaSet", "SuccessfulRescale",
  "RegisteredNode", "RemovingNode", "NodeReady", "NodeNotReady", "Rebooted",
];

/** LogsQL of the events that say that something was changed. */
export const changeFilter = `reason:in(${reasons.map(quote).join(",")})`;
