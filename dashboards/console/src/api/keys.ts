/**
 * Every query key, in one place, so that no two queries can share one by accident. What belongs to a
 * cluster has the cluster's id second: ["pods", "prod-1", filter]. What spans clusters has "*" there.
 */
export type ClusterId = string;

/** Stands for the cluster of what spans clusters. It can be no cluster's id. */
export const everyCluster = "*";

export interface PodFilter {
  readonly namespace?: string;
  readonly workload_type?: string;
  readonly workload?: string;
  readonly node?: string;
  readonly service?: string;
}

export const keys = {
  catalogue: () => ["catalogue", everyCluster] as const,
  soughtMetrics: (names: readonly string[]) => ["sought-metrics", everyCluster, names] as const,
  objectSearch: (words: string) => ["search", everyCluster, words] as const,
  changes: () => ["changes", everyCluster] as const,
  status: () => ["status", everyCluster] as const,
  clusters: () => ["clusters", everyCluster] as const,
  cluster: (cluster: ClusterId) => ["cluster", cluster] as const,
  nodes: (cluster: ClusterId) => ["nodes", cluster] as const,
  node: (cluster: ClusterId, node: string) => ["node", cluster, node] as const,
  workloads: (cluster: ClusterId, namespace = "") => ["workloads", cluster, namespace] as const,
  workload: (cluster: ClusterId, namespace: string, type: string, name: string) =>
    ["workload", cluster, namespace, type, name] as const,
  namespaces: (cluster: ClusterId) => ["namespaces", cluster] as const,
  namespace: (cluster: ClusterId, namespace: string) => ["namespace", cluster, namespace] as const,
  services: (cluster: ClusterId, namespace: string) => ["services", cluster, namespace] as const,
  service: (cluster: ClusterId, namespace: string, service: string) => ["service", cluster, namespace, service] as const,
  watching: (cluster: ClusterId, place: Readonly<Record<string, string | undefined>>) => ["watching", cluster, place] as const,
  worstPods: (cluster: ClusterId, search: string) => ["worst-pods", cluster, search] as const,
  settings: (cluster: ClusterId) => ["settings", cluster] as const,
  lineRate: (cluster: ClusterId) => ["line-rate", cluster] as const,
  sourceChanges: (cluster: ClusterId, from: string, to: string) => ["source-changes", cluster, from, to] as const,
  ingest: (cluster: ClusterId) => ["ingest", cluster] as const,
  pods: (cluster: ClusterId, filter: PodFilter) => ["pods", cluster, filter] as const,
  pod: (cluster: ClusterId, namespace: string, pod: string) => ["pod", cluster, namespace, pod] as const,
  incidents: (cluster: ClusterId, state: string) => ["incidents", cluster, state] as const,
  incident: (id: string) => ["incident", everyCluster, id] as const,
  timeline: (id: string) => ["incident", everyCluster, id, "timeline"] as const,
  silences: () => ["silences", everyCluster] as const,
  maintenances: () => ["maintenances", everyCluster] as const,
  tokens: () => ["tokens", everyCluster] as const,
  policies: () => ["policies", everyCluster] as const,
  deliveries: (incident: string, state: string, filter = "") => ["deliveries", everyCluster, incident, state, filter] as const,
  boards: () => ["boards", everyCluster] as const,
  board: (name: string) => ["board", everyCluster, name] as const,
  targets: () => ["targets", everyCluster] as const,
  alerts: (cluster: ClusterId, state: string, policy: string) => ["alerts", cluster, state, policy] as const,
  history: (name: string) => ["policy", everyCluster, name, "history"] as const,
  trial: (policy: string) => ["trial", everyCluster, policy] as const,
  backtest: (id: string) => ["backtest", everyCluster, id] as const,
  ticket: (ticket: string) => ["ticket", everyCluster, ticket] as const,
  why: (policy: string, question: string) => ["why", everyCluster, policy, question] as const,
  presets: () => ["policies", everyCluster, "presets"] as const,
  firstUse: () => ["first-use", everyCluster] as const,
  routes: () => ["routes", everyCluster] as const,
  inhibitions: () => ["inhibitions", everyCluster] as const,
  statistics: (days: number, cluster: string) => ["incidents", cluster === "" ? everyCluster : cluster, "statistics", days] as const,
  search: (asked: string) => ["incidents", everyCluster, "search", asked] as const,
  policy: (name: string) => ["policy", everyCluster, name] as const,
  range: (cluster: ClusterId, query: string, from: string, to: string, points: number) =>
    ["range", cluster, query, from, to, points] as const,
  instant: (cluster: ClusterId, query: string) => ["instant", cluster, query] as const,
  labelValues: (cluster: ClusterId, label: string, match: string, from: string, to: string) => ["label-values", cluster, label, match, from, to] as const,
  labels: (cluster: ClusterId, match: string, from: string, to: string) => ["labels", cluster, match, from, to] as const,
  families: (cluster: ClusterId) => ["families", cluster] as const,
  logs: (cluster: ClusterId, query: string, from: string, to: string, limit: number) =>
    ["logs", cluster, query, from, to, limit] as const,
  fieldNames: (cluster: ClusterId, query: string, from: string, to: string) => ["fields", cluster, query, from, to] as const,
  fieldValues: (cluster: ClusterId, query: string, field: string, from: string, to: string) => ["values", cluster, query, field, from, to] as const,
  context: (cluster: ClusterId, stream: string, time: string) => ["context", cluster, stream, time] as const,
  hits: (cluster: ClusterId, query: string, from: string, to: string, field: string) =>
    ["hits", cluster, query, from, to, field] as const,
};
