// The page to try the API: requests carry the session of whoever is signed in, or the key that is entered.
const room = document.getElementById("api");

// What Swagger UI leaves without a name, out of the keyboard's reach, outside of landmarks, or without a heading of the level
// above (it has none of the second); it draws these anew whenever something changes.
function complete() {
  for (const [selector, name] of [["#servers", "Server"], ["textarea.body-param__text", "Body of the request"]]) {
    for (const one of room.querySelectorAll(`${selector}:not([aria-label])`)) one.setAttribute("aria-label", name);
  }
  for (const one of room.querySelectorAll("pre:not([tabindex])")) one.setAttribute("tabindex", "0");
  for (const [selector, name] of [[".information-container", "About"], [".scheme-container", "Server and key"]]) {
    for (const one of room.querySelectorAll(`${selector}:not([role])`)) {
      one.setAttribute("role", "region");
      one.setAttribute("aria-label", name);
    }
  }
  for (const level of [3, 4, 5, 6]) {
    for (const one of room.querySelectorAll(`h${level}:not([aria-level])`)) one.setAttribute("aria-level", level - 1);
  }
}

new MutationObserver(complete).observe(room, { childList: true, subtree: true });

window.SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#api",
  // Links to single operations would stand inside of the buttons that open them, where a screen reader does not find them.
  deepLinking: false,
  docExpansion: "list",
  tryItOutEnabled: true,
  validatorUrl: null,
});
