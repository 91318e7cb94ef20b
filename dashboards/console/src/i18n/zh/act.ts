import type { act } from "../act";

export const zh: typeof act = {
  title: { acknowledge: "确认故障", silence: "静默故障" },
  loading: "来自通知的链接",
  what: "链接",
  incident: "故障",
  severity: "级别",
  cluster: "集群",
  since: "开始",
  until: "链接有效期至",
  told: "通知目标",
  acknowledgeText: "提醒和升级会停止，直到级别升高、有新告警加入或过了 24 小时。目前还没有执行任何操作。",
  silenceText: "匹配的内容不再通知任何人；评估继续进行。目前还没有执行任何操作。",
  mutes: "将会屏蔽",
  hours: "多少小时",
  comment: "评论（可选）",
  acknowledge: "确认",
  silence: "静默",
  done: { acknowledge: "已确认。链接已用完。", silence: "已静默。链接已用完。" },
  used: "此链接已使用过；只能使用一次。",
  resolved: "期间已恢复。",
  toIncident: "打开故障",
};
