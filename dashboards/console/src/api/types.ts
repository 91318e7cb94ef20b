import type { components } from "./schema";

type Schemas = components["schemas"];

export type Metric = Schemas["Metric"];
export type Cluster = Schemas["Cluster"];
export type ClusterSource = Schemas["InventorySource"];
export type Node = Schemas["Node"];
export type Workload = Schemas["Workload"];
export type Pod = Schemas["Pod"];
export type Container = Schemas["Container"];
export type Incident = Schemas["Incident"];
export type IncidentDetail = Schemas["IncidentDetail"];
export type Alert = Schemas["Alert"];
export type Delivery = Schemas["Delivery"];
export type Policy = Schemas["Policy"];
export type Usage = Schemas["Usage"];
export type Status = Schemas["Status"];
export type Target = Schemas["Target"];
export type Token = Schemas["Token"];
export type Namespace = Schemas["Namespace"];
export type Service = Schemas["Service"];
export type Watching = Schemas["Watching"];
export type Collector = Schemas["Collector"];
export type Found = Schemas["Found"];
