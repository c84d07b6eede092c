// What somebody should look at now.

import { parseTime, dayClock } from "../lib/time";
import { href } from "../lib/router";
import type { AlarmView } from "../lib/upkeep";
import { vocabulary, words } from "../lib/words";
import { why } from "./strip";

const t = words({
  title: ["Alarms", "Báo động"],
  none: ["Nothing to look at: volumes, clock, index and cameras are well.", "Không có gì cần xem: ổ đĩa, đồng hồ, chỉ mục và camera đều tốt."],
  since: ["since {time}", "từ {time}"],
  critical: ["Critical", "Nghiêm trọng"],
  warning: ["Warning", "Cảnh báo"],
  cameras: ["Show these cameras", "Hiện các camera này"],
});

const kindOf = vocabulary({
  recorder: ["The recorder does not report", "Bộ ghi không báo cáo"],
  volume: ["A volume does not take footage", "Một ổ không nhận bản ghi"],
  "volume-full": ["A volume is full, and nothing on it may be deleted", "Một ổ đầy và không được xoá gì trên đó"],
  "deleting-paused": ["Deleting is paused", "Tạm dừng xoá"],
  guarantee: ["Guaranteed days do not fit", "Không đủ chỗ cho số ngày cam kết"],
  overload: ["The node cannot keep up", "Nút không ghi kịp"],
  clock: ["The node's clock is not trusted", "Đồng hồ của nút không tin cậy"],
  index: ["The index is not whole", "Chỉ mục chưa đầy đủ"],
  damage: ["Stored video is damaged", "Dữ liệu lưu bị hỏng"],
  streams: ["Streams without pictures", "Luồng không có hình"],
  identity: ["Another device seems to answer", "Có vẻ thiết bị khác trả lời"],
});

export function Alarms({ alarms }: { alarms: AlarmView[] }) {
  return <section class="card alarms" aria-labelledby="alarms-title">
    <h2 id="alarms-title"><span class={`dot ${!alarms.length ? "good" : alarms[0]!.level === "critical" ? "bad" : "wait"}`} />
      <span>{t("title")}</span><small>{alarms.length || ""}</small></h2>
    {!alarms.length && <p class="hint">{t("none")}</p>}
    <ul>{alarms.map((one, i) => <li key={i} class={one.level}>
      <p><b class="level">{t(one.level)}</b> <b>{kindOf(one.kind)}{one.count ? ` (${one.count})` : ""}{one.reason ? `: ${why(one.reason)}` : ""}</b>
        {one.since && <small> {t("since", { time: dayClock(parseTime(one.since)) })}</small>}</p>
      {one.subject && <p class="subject">{one.subject}{(one.kind === "streams" || one.kind === "identity") && <> · <a href={`${href("cameras")}?state=${one.kind === "streams" ? "trouble" : "recording"}`}>{t("cameras")}</a></>}</p>}
      {one.detail && <p class="hint">{one.detail}</p>}
    </li>)}</ul>
  </section>;
}
