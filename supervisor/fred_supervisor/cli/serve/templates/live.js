// Follows the server: each message holds the parts of the page that have changed.
"use strict";
const lost = document.getElementById("lost");
let heard = Date.now();

function show(name, html) {
  const part = document.getElementById(name);
  if (!part || (getSelection().toString() && part.contains(getSelection().anchorNode))) return; // somebody copies it
  const before = part.querySelector("pre.tail");
  const atEnd = !before || before.scrollTop + before.clientHeight >= before.scrollHeight - 4;
  const top = before ? before.scrollTop : 0;
  const focus = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.innerHTML = html;
  const after = part.querySelector("pre.tail");
  if (after) after.scrollTop = atEnd ? after.scrollHeight : top;
  if (focus) for (const link of part.querySelectorAll("a")) if (link.getAttribute("href") === focus) link.focus();
}

if (document.querySelector("[data-live]")) {
  const events = new EventSource(location.pathname.replace(/\/$/, "") + "/events");
  events.onmessage = (message) => {
    heard = Date.now();
    lost.hidden = true;
    for (const [name, html] of Object.entries(JSON.parse(message.data))) show(name, html);
  };
  for (const tail of document.querySelectorAll("pre.tail")) tail.scrollTop = tail.scrollHeight;
  setInterval(() => {
    if (Date.now() - heard < 15000) return;
    lost.textContent = lost.dataset.text.replace("%", new Date(heard).toLocaleTimeString());
    lost.hidden = false;
  }, 1000);
}

for (const button of document.querySelectorAll("button[data-post]")) {
  button.addEventListener("click", async () => {
    if (button.dataset.sure && !confirm(button.dataset.sure)) return;
    const to = document.getElementById(button.dataset.to);
    button.disabled = true;
    try {
      const answer = await fetch(button.dataset.post, { method: "POST" });
      to.textContent = await answer.text();
    } catch (error) {
      to.textContent = String(error);
    }
    to.hidden = false;
    button.disabled = false;
  });
}
