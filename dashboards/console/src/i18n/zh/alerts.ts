/** What the policies that come with the product are called, and what each is for. */
const presets: Record<string, string> = {
  "Crash loop": "崩溃循环", "A container ends again and again right after it was started; Kubernetes waits longer each time.": "容器启动后反复退出；Kubernetes 每次等待更久。",
  "Image cannot be pulled": "镜像无法拉取", "A pod does not start because its image cannot be pulled.": "镜像无法拉取，Pod 没有启动。",
  "Container cannot be made": "容器无法创建", "A pod does not start because a ConfigMap, a Secret, a volume or a command that it names is wrong.": "Pod 引用的 ConfigMap、Secret、存储卷或命令有误，没有启动。",
  "Out of memory": "内存不足被终止", "A container, or a process in it, was ended because its memory ran out.": "容器或其中的进程因内存耗尽被终止。",
  "No node takes the pod": "没有节点可调度", "A pod waits because no node has room for it, or none matches what it asks for.": "没有节点有足够资源或符合要求，Pod 在等待。",
  "Pod not ready": "Pod 未就绪", "A pod runs but does not get ready, as its readiness probe fails.": "Pod 在运行，但就绪探针失败，未就绪。",
  Restarts: "重启", "The containers of a pod were restarted several times within minutes.": "Pod 的容器在数分钟内多次重启。",
  "Restarts of a workload": "工作负载重启", "Containers of a workload's pods were restarted several times within minutes.": "工作负载的容器在数分钟内多次重启。",
  "CPU at its limit": "CPU 达到限额", "A pod uses nearly all the CPU that its limit allows. It may be slow; it is not broken.": "Pod 几乎用完 CPU 限额；可能变慢，但没有损坏。",
  "CPU throttled": "CPU 受限", "A container is held back by its CPU limit in a good part of the time in which it wants to run.": "容器想运行的时间里，有很大一部分被 CPU 限额拖住。",
  "Memory near its limit": "内存接近限额", "A pod's working set is near its memory limit; beyond it the pod is ended.": "Pod 的工作集接近内存限额；超过后会被终止。",
  "Replicas missing": "缺少副本", "A workload has fewer ready pods than it should, for longer than a rollout explains.": "就绪的 Pod 少于期望，且时间超过一次发布所能解释的。",
  "Rollout stuck": "发布卡住", "A rollout has made no progress for its deadline. The pods of the version before may still serve; the new ones do not get ready.": "发布在期限内没有进展。旧版本的 Pod 可能仍在服务；新的没有就绪。",
  "Job failed": "任务失败", "A Job, or the newest one of a CronJob, failed for good.": "Job（或 CronJob 的最新一次）最终失败。",
  "CronJob missed": "CronJob 错过调度", "A CronJob did not start when it should have.": "CronJob 没有按时启动。",
  "Autoscaler at its most": "自动伸缩达到上限", "An autoscaler cannot add replicas, as it has as many as it may.": "副本数已达上限，自动伸缩无法再增加。",
  "Service without ready pods": "Service 没有就绪的 Pod", "A Service has pods behind it, and none of them is ready; requests to it fail.": "Service 后端有 Pod，但都未就绪；对它的请求会失败。",
  "Node not ready": "节点未就绪", "The control plane does not hear from a node's kubelet, or the kubelet says that the node cannot run pods.": "控制面收不到节点 kubelet 的消息，或 kubelet 表示节点无法运行 Pod。",
  "Nothing heard of the cluster": "集群没有消息", "No collector of a cluster was heard for minutes. Nothing of it can be watched; what fires there is as it was last seen.": "数分钟没有收到集群任何采集器的消息。无法监控；正在触发的告警是最后所见的状态。",
  "Node not read": "节点无数据", "A node is ready, but no collector told of it for minutes; its pods cannot be watched.": "节点就绪，但数分钟没有采集器上报；无法监控其 Pod。",
  "Link to a node down": "节点链路中断", "Some nodes reach a node and others do not. What runs on them cannot speak with each other, though each is ready.": "部分节点能访问该节点，部分不能。虽然都就绪，其上的应用无法互相通信。",
  "Node isolated": "节点被隔离", "No other node reaches a node, while its own collector still speaks to the server. The network between the nodes fails, not the node.": "其他节点都无法访问该节点，而其采集器仍能上报。是节点间网络故障，不是节点故障。",
  "Node cut off from the server": "节点与服务器断开", "Other nodes find the collector on a node well, but it does not reach this server. Its pods cannot be watched; the node itself is fine.": "其他节点看到该节点的采集器正常，但它无法访问本服务器。无法监控其 Pod；节点本身正常。",
  "Node under pressure": "节点有压力", "A node runs out of disk, memory or process ids, or its network is not set up. It evicts pods or takes no new ones.": "节点的磁盘、内存或进程号不足，或网络未就绪。它会驱逐 Pod 或不再接收。",
  "Node's CPU used up": "节点 CPU 用尽", "A node's CPUs are busy nearly all the time.": "节点的 CPU 几乎一直繁忙。",
  "Node's memory used up": "节点内存用尽", "A node has little memory left; the kernel may end processes.": "节点内存所剩不多；内核可能终止进程。",
  "Disk filling": "磁盘将满", "A file system of a node is nearly full.": "节点的一个文件系统快满了。",
  "Disk full within a day": "磁盘一天内写满", "A file system of a node is on its way to be full within 24 hours.": "节点的一个文件系统预计 24 小时内写满。",
  "Inodes running out": "inode 将用尽", "A file system of a node can hold few more files.": "节点的一个文件系统能再容纳的文件不多了。",
  "Connection tracking running out": "连接跟踪将用尽", "A node can track few more connections; new ones will be dropped.": "节点能再跟踪的连接不多了；新连接将被丢弃。",
  "Clock wrong": "时钟有误", "A node's clock is off by more than a second; certificates, leases and logs go by it.": "节点时钟偏差超过一秒；证书、租约和日志都以它为准。",
  "Restarts on a node": "节点上的重启", "Containers of several pods of a node were restarted within minutes.": "节点上多个 Pod 的容器在数分钟内重启。",
  "Cluster's CPU used up": "集群 CPU 用尽", "The pods of a cluster use nearly all CPU that its nodes have for them.": "集群的 Pod 几乎用完节点可提供的 CPU。",
  "Cluster's memory used up": "集群内存用尽", "The pods of a cluster use nearly all memory that its nodes have for them.": "集群的 Pod 几乎用完节点可提供的内存。",
  "Cluster's CPU requested": "集群 CPU 已被请求", "Pods ask for nearly all CPU that a cluster has for them; further pods will wait.": "Pod 请求了集群几乎全部 CPU；后续的 Pod 将等待。",
  "Cluster's memory requested": "集群内存已被请求", "Pods ask for nearly all memory that a cluster has for them; further pods will wait.": "Pod 请求了集群几乎全部内存；后续的 Pod 将等待。",
  "Volume nearly full": "存储卷将满", "A persistent volume has little space left.": "持久卷所剩空间不多。",
  "Volume's inodes running out": "存储卷 inode 将用尽", "A persistent volume can hold few more files.": "持久卷能再容纳的文件不多了。",
  "Volume not bound": "存储卷未绑定", "A claim has no volume. Pods that use it do not start.": "存储卷声明没有绑定存储卷；使用它的 Pod 无法启动。",
  "Control plane component down": "控制面组件不可用", "The API server, etcd, the scheduler, the controller manager or the DNS is not healthy or cannot be reached.": "API server、etcd、调度器、控制器管理器或 DNS 异常或无法访问。",
  "API server fails requests": "API server 请求失败", "The API server answers a good part of its requests with errors of its own.": "API server 对相当一部分请求返回自身错误。",
  "Certificate ends soon": "证书即将到期", "The certificate of a control plane component ends soon; what talks to it will be refused then.": "控制面组件的证书即将到期；届时与它的通信会被拒绝。",
  "Quota nearly used": "配额将用尽", "A namespace has used nearly all that its quota allows; what asks for more is refused.": "命名空间几乎用完配额；再请求会被拒绝。",
};

const ops: Record<string, string> = { above: "高于", "at or above": "不低于", below: "低于", "at or below": "不高于", "equal to": "等于", "other than": "不等于" };
const severities: Record<string, string> = { info: "提示", warning: "警告", critical: "严重" };
const statistics: Record<string, string> = { avg: "平均值", max: "最大值", min: "最小值", sum: "合计", last: "最新值", increase: "增量", p95: "p95", p99: "p99" };
const causes: Record<string, string> = {
  "the value is normal again": "值恢复正常", "the object was deleted": "对象已删除", "the object has finished": "对象已完成", "the workload was scaled down": "工作负载已缩容",
  "a newer version of the workload replaced it": "被工作负载的新版本替换", "the policy does not select the object any more": "策略不再选中该对象", "the metric does not apply to the object any more": "该指标不再适用于该对象",
  "there are no values any more": "不再有值", "the cluster was removed": "集群已移除", "the policy was changed": "策略已更改", "the policy was disabled": "策略已停用", "the policy was deleted": "策略已删除",
};
const op = "(at or above|at or below|above|below|equal to|other than)";

type Patterns = readonly (readonly [RegExp, (...groups: string[]) => string])[];

function first(patterns: Patterns, english: string): string | undefined {
  for (const [pattern, words] of patterns) {
    const found = pattern.exec(english);
    if (found) return words(...found.slice(1));
  }
  return undefined;
}

/** What alerts and policies say, in Chinese; undefined where a part of it is not known. title gives a metric's. */
export function alertWords(english: string, title: (english: string) => string | undefined, why: (english: string) => string): string | undefined {
  const metric = (words: string): string | undefined => title(words) ?? title(words.slice(0, 1).toUpperCase() + words.slice(1)) ?? lower(words);
  // A metric of states is named in small letters; only its title is in the catalogue.
  const lower = (words: string): string | undefined => (/^ready$/i.test(words) ? "就绪" : undefined);

  const counted = (words: string): string => (/^log lines$/i.test(words) ? "日志行" : /^events$/i.test(words) ? "事件" : words);
  const subjects: Patterns = [
    [/^node (\S+)$/, (n) => `节点 ${n}`],
    [/^cluster (\S+)$/, (n) => `集群 ${n}`],
    [/^namespace (\S+)$/, (n) => `命名空间 ${n}`],
    [/^volume (\S+) in (\S+)$/, (n, ns) => `${ns} 的存储卷 ${n}`],
    [/^service (\S+) in (\S+)$/, (n, ns) => `${ns} 的服务 ${n}`],
    [/^(\S+) of cluster (\S+)$/, (n, c) => `集群 ${c} 的 ${n}`],
    [/^(\S+) in (\S+)$/, (n, ns) => `${ns} 的 ${n}`],
    [/^(\S+)$/, (n) => n],
  ];
  const heads: Patterns = [
    [/^(.+): no data$/, (t) => `${metric(t) ?? t}：无数据`],
    [/^(.+) has a result$/, (t) => `${presets[t] ?? metric(t) ?? t}有结果`],
    [/^no (.+) in (\S+)$/, (t, period) => `${period} 内没有${counted(t)}`],
    [new RegExp(`^(.+) against (\\S+) ago changed by ${op} (.+)$`), (t, ago, o, limit) => `${metric(t) ?? t}相比 ${ago} 前的变化${ops[o] ?? o} ${limit}`],
    [new RegExp(`^(.+) will be ${op} (.+) in (\\S+)$`), (t, o, limit, within) => `${metric(t) ?? t}将在 ${within} 内${ops[o] ?? o} ${limit}`],
    [new RegExp(`^(.+?) ${op} (.+) in (\\d\\S*)$`), (t, o, limit, period) => `${period} 内${metric(t) ?? counted(t)}${ops[o] ?? o} ${limit}`],
    [new RegExp(`^(.+?) ${op} (.+)$`), (t, o, limit) => `${metric(t) ?? t}${ops[o] ?? o} ${limit}`],
    [/^not (.+)$/, (t) => (/^ready$/i.test(t) ? "未就绪" : `非${metric(t) ?? t}`)],
  ];
  const compared: Patterns = [
    [/^the expression$/, () => "表达式的值"],
    [/^the number of (.+) in (\S+)$/, (t, period) => `${period} 内的${counted(t)}数`],
    [/^the change of the (\S+) over (\S+) against (\S+) ago$/, (s, period, ago) => `${period} 的${statistics[s] ?? s}相比 ${ago} 前的变化`],
    [/^the forecast for (\S+) later$/, (later) => `${later} 后的预测值`],
    [/^(\S+) over (\S+)$/, (s, period) => `${period} 的${statistics[s] ?? s}`],
  ];
  const what = (words: string): string => first(compared, words) ?? words;
  const explained: Patterns = [
    [/^(.+) was (.+) in the last (?:(\d+) periods|period)$/, (w, values, n) => `最近 ${n || "1"} 个周期，${what(w)}为 ${values}`],
    [/^(.+) has no value$/, (w) => `${what(w)}没有值`],
    [/^(info|warning|critical) while it has a result$/, (s) => `有结果即为${severities[s] ?? s}`],
    [new RegExp(`^(info|warning|critical) ${op} (.+)$`), (s, o, limit) => `${ops[o] ?? o} ${limit} 为${severities[s] ?? s}`],
    [/^no sample since (\S+), which is longer than (\S+)$/, (since, after) => `自 ${since} 起没有样本，已超过 ${after}`],
    [/^it has not recovered yet$/, () => "尚未恢复"],
    [new RegExp(`^(info|warning|critical) needs (\\d+) of (\\d+) ${op} (.+), and (\\d+) are$`), (s, need, of, o, limit, bad) => `${severities[s] ?? s}需要 ${of} 个中有 ${need} 个${ops[o] ?? o} ${limit}，现有 ${bad} 个`],
    [/^the object does not have this metric then$/, () => "当时该对象没有这个指标"],
  ];
  // "At 2026-11-28T12:00:00Z avg over 1m was 3 in the last period; warning needs …. So it was ok and stayed so."
  const ends: Patterns = [
    [/^the alert ended: (.+)$/, (cause) => `告警结束：${causes[cause] ?? cause}`],
    [/^the alert began with (\w+)$/, (s) => `告警以${severities[s] ?? s}开始`],
    [/^it went from (\w+) to (\w+)$/, (a, b) => `级别由${severities[a] ?? a}变为${severities[b] ?? b}`],
    [/^it was firing with (\w+) and went on: (\d+) good periods in a row end it$/, (s, n) => `以${severities[s] ?? s}触发并持续：连续 ${n} 个正常周期后结束`],
    [/^it was ok and stayed so$/, () => "原本正常，仍然正常"],
  ];
  const told = (english: string): string | undefined => {
    const found = /^At (\S+) (?:it was not judged: (.+)|(?:(.+)\. So )?(.+))\.$/.exec(english);
    if (!found) return undefined;
    const [at, not, values, end] = [found[1] ?? "", found[2], found[3], found[4]];
    if (not !== undefined) return `${at} 没有判断：${causes[not] ?? first(idle, not) ?? not}`;
    const is = first(ends, end ?? "");
    const was = values === undefined ? [] : values.split(/; (?:and |or )?/).map((v) => first(explained, v));
    return is === undefined || was.some((w) => w === undefined) ? undefined : [at, ...was, is].join("；");
  };
  const reasons: Patterns = [
    [/^evaluated in part on (\S+): (.+)$/, (c, r) => `在 ${c} 上只评估了一部分：${r}`],
    [/^cannot be evaluated on (\S+): (.+)$/, (c, r) => `无法在 ${c} 上评估：${r}`],
    [/^not evaluated on (\S+): (.+)$/, (c, r) => `未在 ${c} 上评估：${first(idle, r) ?? r}`],
    [/^there is no cluster yet$/, () => "还没有集群"],
    [/^selects no cluster$/, () => "没有选中集群"],
    [/^selects nothing that has values$/, () => "选中的对象都没有值"],
    [/^selects nothing$/, () => "没有选中对象"],
    [/^its expressions give no series now$/, () => "表达式目前没有结果"],
    [/^tells nobody: no target is named and there is no route; incidents are shown in the console only$/, () => "不通知任何人：没有指定通知目标，也没有路由；故障只在控制台显示"],
    [/^its policy is not there: somebody deleted it, or the server was started with --presets=false$/, () => "策略不存在：被删除，或服务器以 --presets=false 启动"],
  ];
  const idle: Patterns = [
    [/^nothing has been received from it since the server started$/, () => "服务器启动后没有收到它的数据"],
    [/^metric (\S+) is not available there: (.+)$/, (name, r) => `那里没有指标 ${name}：${why(r)}`],
    [/^there is no log store$/, () => "没有日志存储"],
    [/^the clock was set back; it is evaluated again from (\S+) on$/, (at) => `时钟被调回；自 ${at} 起重新评估`],
    [/^no collector says up to when its lines are complete, so that none cannot be told from late ones; conditions with > and >= work$/, () => "没有采集器说明日志行到何时为止是完整的，无法区分没有与迟到；> 和 >= 条件有效"],
  ];

  // Why an alert ended, and the values by which it did.
  const [cause = "", values] = english.split(/: (.*)/s);
  const ended = causes[cause];
  const by = values === undefined ? undefined : first(explained, values);
  if (ended !== undefined && (values === undefined || by !== undefined)) return by === undefined ? ended : `${ended}：${by}`;
  const whole = told(english) ?? presets[english] ?? first(reasons, english) ?? first(idle, english);
  if (whole !== undefined) return whole;
  const parts = english.split(/; (?:and )?/).map((p) => first(explained, p));
  if (parts.every((p) => p !== undefined)) return parts.join("；");
  // "cart in shop: Replicas missing above 0"
  const colon = english.indexOf(": ");
  const head = (words: string) => first(heads, words) ?? presets[words] ?? metric(words);
  if (colon < 0) return head(english);
  const [about, is] = [first(subjects, english.slice(0, colon)), head(english.slice(colon + 2))];
  return about === undefined || is === undefined ? undefined : `${about}：${is}`;
}
