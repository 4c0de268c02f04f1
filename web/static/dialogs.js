// <a href="#id" data-dialog>: opens <dialog id="id"> as a modal. Without JavaScript the link alone does (dialog:target).
// notify("3 replayed"): a note in the corner that goes by itself.

const SHOWN_MS = 6000;

document.addEventListener("click", (event) => {
  const opener = event.target.closest("a[data-dialog]");
  const dialog = opener && document.getElementById(opener.hash.slice(1));
  if (dialog) {
    event.preventDefault();
    dialog.showModal();
  }
  const closer = event.target.closest("dialog [data-close]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
  }
});

export function notify(text, tone = "ok") {
  let place = document.getElementById("toasts");
  if (!place) {
    place = document.createElement("div");
    place.id = "toasts";
    place.setAttribute("role", "status");
    document.body.append(place);
  }
  const note = document.createElement("p");
  note.className = `notice ${tone}`;
  note.textContent = text;
  place.append(note);
  setTimeout(() => note.remove(), SHOWN_MS);
}
