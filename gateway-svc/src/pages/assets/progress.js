// Keeps the progress page up to date. Without it, the page has a link to refresh.
"use strict";
const progress = document.getElementById("progress");
const refresh = document.getElementById("refresh");
if (progress && progress.dataset.events && "EventSource" in window) {
  const summary = document.getElementById("summary");
  const details = document.getElementById("details");
  const source = new EventSource(progress.dataset.events);
  source.addEventListener("open", () => { refresh.hidden = true; });
  source.addEventListener("progress", (event) => {
    const now = JSON.parse(event.data);
    progress.dataset.outcome = now.outcome;
    // Screen readers say the summary when it changes, and only then.
    if (summary.textContent !== now.summary) summary.textContent = now.summary;
    // The server has escaped everything in it, and the policy of the page runs no inline script.
    // Whoever stands on a link in there with the keyboard must not lose their place for nothing.
    if (details.innerHTML !== now.details) details.innerHTML = now.details;
  });
  source.addEventListener("end", (event) => {
    source.close();
    if (event.data === "reload") location.reload();
  });
  source.addEventListener("error", () => { refresh.hidden = false; });
}
