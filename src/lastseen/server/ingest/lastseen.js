// lastseen counts page views, events and engaged time. It sets no cookie and stores nothing.
((w, d, n) => {
  const tag = d.currentScript;
  const to = tag.dataset.to || new URL("/api/v1/events", tag.src).href;
  const now = () => performance.now();
  let waiting = [], engaged = 0, since = 0, page, from = d.referrer;
  // Who reloads or goes back arrives from nowhere.
  let arrives = !/^(re|back)/.test(performance.getEntriesByType("navigation")[0]?.type);

  w.lastseen = () => {};
  if (n.globalPrivacyControl || n.doNotTrack == 1 || !/^http/.test(location.protocol)) return;

  const flush = (leaving) => {
    if (!waiting.length) return;
    const events = waiting;
    const body = JSON.stringify({ write_key: tag.dataset.site, sent_at: new Date(), events });
    const again = () => (waiting = events.concat(waiting).slice(-50));
    waiting = [];
    if (leaving && n.sendBeacon(to, body)) return;
    fetch(to, { method: "POST", body, keepalive: true, credentials: "omit" }).then((r) => r.status > 499 && again(), again);
  };
  const add = (name, properties, leaving) => {
    const at = new Date();
    waiting.push({
      // Begins with its moment: databases add it behind the others.
      id: "0" + (+at).toString(16) +
        Array.from(crypto.getRandomValues(new Uint8Array(10)), (b) => (b + 256).toString(16).slice(1)).join(""),
      name, at, engaged_ms: Math.round(engaged), properties, screen: screen.width + "x" + screen.height,
      url: arrives ? page : page.replace(/\butm_\w+=[^&#]*&?/g, ""), referrer: arrives ? from : undefined,
    });
    engaged = 0;
    arrives = false;
    flush(leaving);
  };
  const tick = () => {
    if (since) engaged += now() - since;
    since = d.visibilityState == "visible" && d.hasFocus() ? now() : 0;
  };
  const leave = () => {
    tick();
    if (engaged > 99) add("$pageleave", undefined, 1);
    else flush(1);
  };
  const view = () => {
    tick();
    page = location.href;
    add("$pageview", { title: d.title });
  };
  const turn = () => {
    if (location.href.split("#")[0] == page.split("#")[0]) return;
    leave();
    from = page;
    arrives = true;
    view();
  };
  const start = () => {
    view();
    for (const name of ["pushState", "replaceState"]) {
      const original = history[name];
      history[name] = function () {
        original.apply(this, arguments);
        turn();
      };
    }
    w.addEventListener("popstate", turn);
    w.addEventListener("pageshow", (e) => e.persisted && view());
    w.addEventListener("pagehide", leave);
    d.addEventListener("visibilitychange", () => (d.hidden ? leave() : tick()));
    w.addEventListener("focus", tick);
    w.addEventListener("blur", tick);
    w.lastseen = (name, properties) => (tick(), add(name, properties));
  };
  d.prerendering ? d.addEventListener("prerenderingchange", start, { once: true }) : start();
})(window, document, navigator);
