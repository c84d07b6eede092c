import { render } from "preact";
import { App } from "./app";
import { startAsking } from "./lib/node";
import { locale, speak } from "./lib/words";
import { startTheme } from "./lib/theme";
import "./style.css";

startTheme();
speak(locale.value);
startAsking();
render(<App />, document.getElementById("app")!);
