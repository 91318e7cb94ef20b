import { useQuery } from "@tanstack/react-query";
import { everyCluster, keys } from "@/api/keys";
import { queryInstant, type Sample } from "@/api/prometheus";
import { queryLogs, type Row } from "@/api/logsql";
import { logsQuery } from "@/parts/logs/model";
import { changeFilter } from "@/parts/objects/changes";
import { useRefresh } from "@/parts/page";

const top = (expr: string) => `topk(5, ${expr})`;

/**
 * What is worst now, over all clusters. Asked by PromQL, so that it costs the same with ten pods and
 * with a hundred thousand.
 */
export const worstQueries = {
  restarts: top("round(sum by (cluster, namespace, workload_type, workload) (increase(k8s_workload_pod_restart_total[1h]))) > 0"),
  memory: top("max by (cluster, namespace, pod) (k8s_pod_rate_mem_no_cache_limit) > 50"),
  cpu: top("max by (cluster, namespace, pod) (avg_over_time(k8s_pod_rate_cpu_core_used_limit[5m])) > 50"),
  throttled: top("max by (cluster, namespace, pod, container) (avg_over_time(k8s_container_throttled_ratio[5m])) > 5"),
  volumes: top("max by (cluster, namespace, persistentvolumeclaim) (k8s_pvc_usage) > 50"),
  disk: top("max by (cluster, node, mountpoint) (k8s_node_filesystem_usage) > 50"),
} as const;

export type WorstKind = keyof typeof worstQueries;

export const useWorst = (kind: WorstKind) =>
  useQuery({
    queryKey: keys.instant(everyCluster, worstQueries[kind]),
    queryFn: async ({ signal }): Promise<Sample[]> => {
      const samples = await queryInstant(worstQueries[kind], signal);
      return samples.sort((a, b) => b.value - a.value);
    },
    refetchInterval: useRefresh(),
  });

const changeSeconds = 3600;
const maxChanges = 40;

/** Events of the last hour that say that something was changed, newest first, whatever range the page shows. */
export const useChanges = () =>
  useQuery({
    queryKey: keys.changes(),
    queryFn: async ({ signal }): Promise<Row[]> => {
      const now = Math.floor(Date.now() / 1000);
      return queryLogs(logsQuery({}, changeFilter, "events"), now - changeSeconds, now, maxChanges, signal);
    },
    refetchInterval: useRefresh(),
    retry: false,
  });
