// Pictures come in a light and a dark version. In the repository the reader's system chooses; here, what
// the reader has chosen in the header.
(function () {
  function choose() {
    var dark = document.body.getAttribute("data-md-color-scheme") === "slate";
    document.querySelectorAll("picture > source[media]").forEach(function (source) {
      source.media = dark ? "all" : "not all";
    });
  }
  choose();
  new MutationObserver(choose).observe(document.body, {
    attributes: true,
    attributeFilter: ["data-md-color-scheme"],
  });
})();
