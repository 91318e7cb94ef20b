import type { server } from "../server";
import { alertWords } from "./alerts";
import { refusal } from "./faults";
import { helps } from "./metrics";

const titles: Record<string, string> = {
  "Reached by a peer": "可被其他节点访问", "Peers that reach it": "能访问它的节点数", Probes: "探针",
  "Abnormal workloads": "异常工作负载", Age: "存在时长", Allocatable: "可分配", "Allocatable CPU": "可分配 CPU", "Allocatable memory": "可分配内存", "Allocatable pods": "可分配 Pod 数",
  "Autoscaler: current": "自动伸缩：当前副本", "Autoscaler: desired": "自动伸缩：期望副本", "Autoscaler: most": "自动伸缩：最大副本", Bound: "已绑定",
  "CPU limit": "CPU 限额", "CPU of cluster": "CPU 占集群", "CPU of limit": "CPU 占限额", "CPU of node": "CPU 占节点", "CPU of request": "CPU 占请求", "CPU of specification": "CPU 占规格",
  "CPU requested": "CPU 请求量", "CPU used": "CPU 使用量", Certificate: "证书剩余有效期", "Clock offset": "时钟偏差", Condition: "节点状况", "Connection tracking used": "连接跟踪使用率",
  "Container restarts": "容器重启", "Container restarts, 5 min": "容器重启（5 分钟）", "CronJob missed": "CronJob 错过调度", "Disk read": "磁盘读取", "Disk reads": "磁盘读次数", "Disk write": "磁盘写入", "Disk writes": "磁盘写次数",
  "Endpoints not ready": "未就绪端点", "Endpoints ready": "就绪端点", "Ephemeral storage": "临时存储", "File system used": "文件系统使用率", "GPUs requested": "GPU 请求量", "GPUs used": "GPU 使用量",
  "Inodes used": "inode 使用率", "Job duration": "任务时长", "Job failed": "任务失败", "Kubelet answers": "kubelet 可达", "Last end": "上次结束", "Leader changes": "领导者切换", Limits: "限额总量",
  "Load, 1 min": "负载（1 分钟）", "Load, 15 min": "负载（15 分钟）", "Load, 5 min": "负载（5 分钟）", "Log lines": "日志行数", "Log volume": "日志量",
  "Memory (working set)": "内存（工作集）", "Memory limit": "内存限额", "Memory of cluster": "内存占集群", "Memory of limit": "内存占限额", "Memory of node": "内存占节点", "Memory of request": "内存占请求",
  "Memory of specification": "内存占规格", "Memory with cache of specification": "内存（含缓存）占规格", "Memory requested": "内存请求量", "Memory used": "内存使用量", "Memory used (working set)": "内存使用量（工作集）", "Memory with cache": "内存（含缓存）",
  "Memory with cache of limit": "内存（含缓存）占限额", "Memory with cache of node": "内存（含缓存）占节点", "Memory with cache of request": "内存（含缓存）占请求",
  "Missing request or limit": "缺少请求或限额", "Network errors": "网络错误", "Network in": "网络流入", "Network out": "网络流出", Nodes: "节点数", "Nodes not ready": "未就绪节点", "OOM kills": "OOM 终止",
  "Packets dropped": "丢包", "Packets in": "流入数据包", "Packets out": "流出数据包", Phase: "阶段", Pods: "Pod 数", "Pods behind it": "后端 Pod 数", "Pods by phase": "各阶段 Pod 数",
  "Pods that wait for the scheduler": "等待调度的 Pod", Probe: "探针", Processes: "进程数", "Quota used": "配额使用率", Ready: "就绪", "Replicas desired": "期望副本", "Replicas missing": "缺少副本", "Replicas ready": "就绪副本",
  "Request latency, p99": "请求延迟（p99）", Requested: "请求总量", Requests: "请求数", "Requests failed": "失败请求", Restarts: "重启次数", "Rollout stuck": "发布卡住", "Root file systems": "根文件系统",
  "Scheduling, p99": "调度耗时（p99）", "Space used": "空间使用率", "TCP connections": "TCP 连接数", Throttled: "CPU 受限", "Time to a node": "调度用时", "Time to running": "启动用时", Unschedulable: "不可调度",
  Waiting: "等待中", Workloads: "工作负载数", "etcd fsync, p99": "etcd 落盘（p99）", "etcd size": "etcd 大小",
};

const whys: Record<string, string> = {
  "a container that counts has no limit, and the pod sets none of its own; k8s_pod_spec_missing is 1": "有计入的容器没有限额，Pod 自身也未设置；k8s_pod_spec_missing 为 1",
  "a container that counts has no request, and the pod sets none of its own; k8s_pod_spec_missing is 1": "有计入的容器没有请求，Pod 自身也未设置；k8s_pod_spec_missing 为 1",
  "a running container has no reading": "有运行中的容器没有读数",
  "all pods of the workload share their node's network (hostNetwork)": "工作负载的所有 Pod 都使用节点网络（hostNetwork）",
  "an elastic cluster has no nodes of its own; its virtual nodes are left out": "弹性集群没有自己的节点；虚拟节点不计入",
  "it is judged by its pods, or does not answer": "由其 Pod 判断，或没有应答",
  "it is no CronJob": "不是 CronJob",
  "it is no Job or CronJob, or none has run": "不是 Job 或 CronJob，或尚未运行过",
  "it is no Job or CronJob, or none has started": "不是 Job 或 CronJob，或尚未启动过",
  "it is not rolled out: a Job, a CronJob or a bare ReplicaSet": "没有发布过程：Job、CronJob 或独立的 ReplicaSet",
  "its log is not followed": "未跟踪其日志",
  "namespaces may not be read": "没有读取命名空间的权限",
  "no autoscaler scales the workload": "没有自动伸缩器管理该工作负载",
  "no pod is behind it, one that is has no limit, or EndpointSlices may not be read": "其后没有 Pod、其中有 Pod 没有限额，或没有读取 EndpointSlice 的权限",
  "no pod is behind it, or EndpointSlices may not be read": "其后没有 Pod，或没有读取 EndpointSlice 的权限",
  "no instance has ended": "没有实例结束过",
  "no instance of the component shows: the provider runs it": "看不到该组件的实例：由云厂商运行",
  "no pod is in the phase": "没有 Pod 处于该阶段",
  "no running pod uses the volume, or its driver does not tell": "没有运行中的 Pod 使用该存储卷，或其驱动不提供",
  "none of its pods is in the phase": "其 Pod 都不处于该阶段",
  "none of the pods behind it is in the phase, or EndpointSlices may not be read": "其后没有处于该阶段的 Pod，或没有读取 EndpointSlice 的权限",
  "a cluster without nodes of its own is measured against its namespaces' quotas, and one with pods has none for the resource": "没有自有节点的集群以命名空间配额为基准，而有 Pod 的某个命名空间没有该资源的配额",
  "a namespace of a cluster without nodes of its own has pods and no quota": "没有自有节点的集群中，有 Pod 的某个命名空间没有配额",
  "the namespace has no workload": "命名空间中没有工作负载",
  "none of the pods behind it has the metric, or EndpointSlices may not be read": "其后的 Pod 都没有该指标，或没有读取 EndpointSlice 的权限",
  "not all containers run, one was restarted, or the pod has ended": "并非所有容器都在运行、有容器重启过，或 Pod 已结束",
  "nothing is missing": "没有缺失",
  "nothing keeps the pod from running": "没有什么妨碍 Pod 运行",
  "one of its pods has no limit": "其中有 Pod 没有限额",
  "only collectors on nodes ask other nodes": "只有节点上的采集器会询问其他节点",
  "virtual nodes do not tell of their pods' probes": "虚拟节点不提供其 Pod 的探针信息",
  "only a collector on the node shows the node's clock": "只有节点上的采集器才能看到节点时钟",
  "pods are measured against their nodes there; the metric is for pods without a node of their own": "那里的 Pod 以其节点衡量；该指标用于没有自己节点的 Pod",
  "read from outside, when no interface of the kubelet's has the configured name": "从外部读取，而 kubelet 没有所配置名称的网卡",
  "the cluster has one node only, or network policies forbid the nodes' collectors to ask each other": "集群只有一个节点，或网络策略禁止各节点的采集器互相询问",
  "the cluster has one node only, or the peer never got such an answer from any node: a network policy may forbid it": "集群只有一个节点，或该节点从未得到过任何节点的回答：可能被网络策略禁止",
  "the container has no such probe, or none with that result yet": "容器没有这种探针，或尚无该结果",
  "the Service selects no pods, or EndpointSlices may not be read": "Service 没有选中 Pod，或没有读取 EndpointSlice 的权限",
  "the component is not reached by TLS": "未通过 TLS 访问该组件",
  "the component's /metrics cannot be read": "无法读取该组件的 /metrics",
  "the container has no CPU limit": "容器没有 CPU 限额",
  "the container has no CPU limit, so that the kernel does not throttle it": "容器没有 CPU 限额，内核不会限制它",
  "the container has no CPU request": "容器没有 CPU 请求",
  "the container has no memory limit": "容器没有内存限额",
  "the container has no memory request": "容器没有内存请求",
  "the container is not running": "容器未运行",
  "the file system makes inodes as it needs them": "该文件系统按需创建 inode",
  "the kernel does not count them": "内核不统计",
  "the kernel does not track connections": "内核没有启用连接跟踪",
  "the kubelet does not tell the number of TCP connections; a collector on the node reads it from /proc": "kubelet 不提供 TCP 连接数；节点上的采集器从 /proc 读取",
  "the kubelet does not tell; a collector on the node reads it from /proc": "kubelet 不提供；节点上的采集器从 /proc 读取",
  "the kubelet's summary does not tell, or it was not asked in this interval": "kubelet 的 summary 不提供，或此间隔内未询问",
  "the namespace has no pod": "命名空间没有 Pod",
  "the namespace has no pod, or one without a limit": "命名空间没有 Pod，或有 Pod 没有限额",
  "the namespace has no quota, or quotas may not be read": "命名空间没有配额，或没有读取配额的权限",
  "the node does not tell of the condition": "节点没有报告该状况",
  "the node has no allocatable CPU": "节点没有可分配 CPU",
  "the node has no allocatable memory": "节点没有可分配内存",
  "the node has no disk that could be found": "节点上没有找到磁盘",
  "the node has no interface that could be found": "节点上没有找到网卡",
  "the kubelet does not tell the traffic of pods, as where it does not know its container runtime's socket; a collector on the node reads it from /proc": "kubelet 不提供 Pod 流量（例如它不知道容器运行时的 socket）；节点上的采集器可从 /proc 读取",
  "the node's kernel gives no block device figures for containers (cgroup v1 does not attribute buffered writes)": "节点内核不提供容器的块设备数据（cgroup v1 无法归属缓冲写）",
  "the node's object may not be read": "没有读取该节点对象的权限",
  "the pod asks for none": "Pod 没有请求",
  "the pod asks for none, or no DCGM exporter is scraped": "Pod 没有请求，或没有采集 DCGM exporter",
  "the pod has neither a limit nor a request": "Pod 既没有限额也没有请求",
  "the pod is in another phase": "Pod 处于其他阶段",
  "the pod is not behind the Service, or EndpointSlices may not be read": "Pod 不在该 Service 之后，或没有读取 EndpointSlice 的权限",
  "the pod is not scheduled, or has ended": "Pod 未调度，或已结束",
  "the pod is scheduled, or has ended": "Pod 已调度，或已结束",
  "the pod is terminating, Succeeded, Failed or evicted": "Pod 正在终止、已成功、已失败或被驱逐",
  "the pod shares its node's network (hostNetwork), whose traffic is not its own": "Pod 使用节点网络（hostNetwork），其流量不属于自己",
  "the provider runs the control plane and does not show it": "控制面由云厂商运行且不可见",
  "the server did not answer yet": "服务器尚未应答",
  "the source does not count them": "数据源不统计",
  "the source does not tell it": "数据源不提供",
  "the workload has no pod": "工作负载没有 Pod",
  "there is no allocatable CPU to divide by": "没有可分配 CPU 可作除数",
  "there is no allocatable memory to divide by": "没有可分配内存可作除数",
};

const doings: Record<string, string> = {
  restarting: "不断重启",
  "running out of memory": "内存不足",
  "unable to pull its image": "无法拉取镜像",
  "unable to start its containers": "无法启动容器",
  "without a node for its pods": "没有节点可调度",
};
const doing = (english: string): string => doings[english] ?? english.replace(/^at (\d+) of (\d+) replicas?$/, "就绪副本 $1/$2");
const span = (english: string): string => english.replace(/^(\d+) s$/, "$1 秒").replace(/^(\d+) min$/, "$1 分钟").replace(/^(\d+) h$/, "$1 小时").replace(/^(\d+) days?$/, "$1 天");

/** The parts of which the server joins a cluster's sentence. */
const parts: readonly (readonly [RegExp, (...groups: string[]) => string])[] = [
  [/^waiting for the first data$/i, () => "等待第一批数据"],
  [/^its objects are being listed$/i, () => "正在列出对象"],
  [/^its objects cannot be listed: (.*)$/i, (why) => `无法列出对象：${why}`],
  [/^no data for (.+), as last seen$/i, (time) => `已 ${span(time)}没有数据，以下为最后所见`],
  [/^node (\S+) is not ready$/i, (node) => `节点 ${node} 未就绪`],
  [/^(\d+) of ([\d,]+) nodes? are not ready$/, (bad, all) => `${all} 个节点中 ${bad} 个未就绪`],
  [/^(\d+) of ([\d,]+) workloads? (?:is|are) unhealthy$/, (bad, all) => `${all} 个工作负载中 ${bad} 个异常`],
  [/^(\d+) of ([\d,]+) sources? cannot be read$/, (bad, all) => `${all} 个数据源中 ${bad} 个无法读取`],
  [/^there are no workloads yet$/i, () => "还没有工作负载"],
  [/^its one workload is healthy$/i, () => "唯一的工作负载正常"],
  [/^all (\d+) workloads are healthy$/i, (all) => `全部 ${all} 个工作负载正常`],
  [/^(\d+) incidents? (?:is|are) open$/, (n) => `${n} 个故障进行中`],
  [/^(\S+) failed (.+) ago$/, (name, time) => `${name} 于 ${span(time)}前失败`],
  [/^(\S+) failed$/, (name) => `${name} 失败`],
  [/^(\S+) has been (.+) for (\d+ (?:s|min|h|days?))$/, (name, what, time) => `${name} 已 ${span(time)}${doing(what)}`],
  [/^(\S+) is (.+)$/, (name, what) => `${name} ${doing(what)}`],
];

function part(english: string): string | undefined {
  for (const [pattern, words] of parts) {
    const found = pattern.exec(english);
    if (found) return words(...found.slice(1));
  }
  return undefined;
}

/** The server's kinds of errors; Prometheus' have their own words. */
const problems: Record<string, string> = {
  too_large: "内容过大", malformed: "请求格式错误", unauthenticated: "未认证", forbidden: "没有权限", not_found: "未找到", conflict: "冲突", invalid: "输入无效", limited: "请求过多", unavailable: "暂不可用", internal: "服务器内部错误",
  bad_data: "查询有误", timeout: "查询超时", execution: "查询无法执行", canceled: "查询已取消",
};

export const zh: typeof server = {
  title: (english) => titles[english] ?? english,
  help: (english) => helps[english] ?? english,
  problem: (code, said, wrong) => {
    const kind = problems[code];
    if (wrong !== undefined && wrong.length > 0) return `${kind ?? said}：${wrong.join("；")}`;
    return kind === undefined ? said : `${kind}：“${said}”`;
  },
  refusal: (reason, params, said) => refusal(reason, params) ?? said,
  why: (english) => whys[english] ?? english,
  alert: (english) => alertWords(english, (t) => titles[t], (w) => whys[w] ?? w) ?? english,
  sentence: (english) => {
    // "No data for 12 min; as last seen, all 3 workloads are healthy": the first is one part, though it has the mark that joins them.
    const all = english.replace(/^(No data for [^;]+); as last seen, /, "$1, as last seen; ").split("; ").map(part);
    // A sentence of two languages reads worse than one in the other language.
    return all.every((p) => p !== undefined) ? all.join("；") : english;
  },
};
