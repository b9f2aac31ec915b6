// What the theme leaves out: names of its two asides, the heading of the page of searches, and a way by keyboard to code
// and tables that scroll.
document.addEventListener("DOMContentLoaded", () => {
  for (const [drawer, name] of [[".sidebar-drawer", "Pages"], [".toc-drawer", "On this page"]]) {
    document.querySelector(drawer)?.setAttribute("aria-label", name);
  }
  if (!document.querySelector("h1")) {
    const heading = document.createElement("h1");
    heading.textContent = "Search";
    document.querySelector("article")?.prepend(heading);
  }
  const reach = (each) => {
    const scrolls = each.scrollWidth > each.clientWidth || each.closest("details:not([open])"); // a closed one has no size
    if (scrolls) each.tabIndex = 0; else each.removeAttribute("tabindex");
  };
  const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => reach(target)));
  document.querySelectorAll("pre, .table-wrapper").forEach((each) => { reach(each); resized.observe(each); });
});
