// The frame around every page: where one is, how the node is doing, language, colours, and the token when it is asked for.

import { signal } from "@preact/signals";
import { type ComponentType, type FunctionComponent, h } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { openSession, whenLocked } from "./lib/api";
import { enabled, now, reach, recorder, recording, refresh, second, trouble } from "./lib/node";
import { href, type PageName, PAGES, route } from "./lib/router";
import { changeTheme, theme } from "./lib/theme";
import { dayClock, offset } from "./lib/time";
import { locale, speak, words } from "./lib/words";
import { Wall } from "./pages/wall";
import { Playback } from "./pages/playback";

const t = words({
  wall: ["Wall", "Màn hình"],
  playback: ["Playback", "Xem lại"],
  cameras: ["Cameras", "Camera"],
  storage: ["Storage", "Lưu trữ"],
  pages: ["Pages", "Các trang"],
  connecting: ["Connecting…", "Đang kết nối…"],
  recording: ["{n} of {all} streams recording", "{n}/{all} luồng đang ghi"],
  silent: ["The recorder does not report. What is recorded can still be watched.", "Bộ ghi không báo cáo. Dữ liệu đã ghi vẫn xem được."],
  lost: ["No answer from the server", "Máy chủ không trả lời"],
  locked: ["Locked", "Đã khoá"],
  light: ["Light colours", "Màu sáng"],
  dark: ["Dark colours", "Màu tối"],
  skip: ["Skip to the content", "Tới nội dung"],
  token: ["This node asks for its token", "Nút này cần mã truy cập"],
  tokenWhere: ["It is in the file that api.token_file names.", "Mã nằm trong tệp mà api.token_file chỉ tới."],
  tokenField: ["Token", "Mã truy cập"],
  open: ["Open", "Mở"],
  loading: ["Loading…", "Đang tải…"],
});

type Loaded = { [name: string]: ComponentType | undefined };
const loaded = signal<Loaded>({ wall: Wall, playback: Playback });
const loaders: Partial<Record<PageName, () => Promise<FunctionComponent>>> = {
  cameras: async () => (await import("./pages/cameras")).Cameras,
  storage: async () => (await import("./pages/storage")).Storage,
};

function Page({ name }: { name: PageName }) {
  const component = loaded.value[name];
  useEffect(() => {
    if (!component) void loaders[name]?.().then((found) => { loaded.value = { ...loaded.value, [name]: found }; });
  }, [name, component]);
  return component ? h(component, {}) : <p class="empty">{t("loading")}</p>;
}

function NodeState() {
  const state = reach.value;
  const bad = state === "lost" || state === "locked" || recorder.value?.running === false;
  const text = state === "connecting" ? t("connecting")
    : state === "locked" ? t("locked")
    : state === "lost" ? t("lost")
    : recorder.value?.running ? t("recording", { n: recording.value, all: enabled.value }) : t("silent");
  return <p id="node" class={`node${bad ? " bad" : ""}`} role="status" title={trouble.value}>
    <span class={`dot ${bad ? "bad" : state === "ok" && recording.value === enabled.value ? "good" : "wait"}`} />
    <span class="long">{text}</span>
    {!bad && state === "ok" && <span class="short" aria-hidden="true">{recording.value}/{enabled.value}</span>}
  </p>;
}

function Clock() {
  void second.value;
  return <p class="clock"><time>{dayClock(now())}</time> <span>{offset(now())}</span></p>;
}

const login = signal(false);
whenLocked(() => { login.value = true; });

function Login() {
  const dialog = useRef<HTMLDialogElement>(null);
  const problem = useRef<HTMLParagraphElement>(null);
  useEffect(() => { if (login.value) dialog.current?.showModal(); else dialog.current?.close(); }, [login.value]);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const field = (event.currentTarget as HTMLFormElement).elements.namedItem("token") as HTMLInputElement;
    try {
      await openSession(field.value);
      field.value = "";
      problem.current!.textContent = "";
      login.value = false;
      await refresh();
    } catch (error) {
      problem.current!.textContent = error instanceof Error ? error.message : String(error);
    }
  };
  return <dialog ref={dialog} aria-labelledby="login-title" onCancel={(event) => event.preventDefault()}>
    <form autocomplete="on" onSubmit={(event) => void submit(event)}>
      <h2 id="login-title">{t("token")}</h2>
      <p>{t("tokenWhere")}</p>
      <input type="text" name="user" autocomplete="username" value="keyreel" hidden />
      <label>{t("tokenField")} <input name="token" type="password" autocomplete="current-password" required /></label>
      <p class="problem" role="alert" ref={problem} />
      <button class="strong" type="submit">{t("open")}</button>
    </form>
  </dialog>;
}

export function App() {
  const { page } = route.value;
  useEffect(() => { document.title = `${t(page)} – Keyreel`; }, [page, locale.value]);
  return <>
    <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>{t("skip")}</a>
    <header class="top">
      <a class="brand" href={href("wall")} aria-label="Keyreel"><img src="/web/mark.svg" alt="" width="24" height="24" /><span>Keyreel</span></a>
      <nav class="pages" aria-label={t("pages")}>
        {PAGES.map((name) => <a key={name} href={href(name)} aria-current={name === page ? "page" : undefined}>{t(name)}</a>)}
      </nav>
      <NodeState />
      <Clock />
      <button class="quiet" type="button" lang={locale.value === "vi" ? "en" : "vi"}
        onClick={() => speak(locale.value === "vi" ? "en" : "vi")}>{locale.value === "vi" ? "English" : "Tiếng Việt"}</button>
      <button class="quiet" type="button" onClick={changeTheme} aria-label={t(theme.value === "dark" ? "light" : "dark")}
        title={t(theme.value === "dark" ? "light" : "dark")}>◐</button>
    </header>
    <main id="main" tabIndex={-1} class={`page page-${page}`}><Page name={page} /></main>
    <Login />
  </>;
}
