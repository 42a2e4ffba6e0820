// The API's docs; what is tried out there goes with the session of who looks at them.
"use strict";
const docs = document.getElementById("docs");
SwaggerUIBundle({
  url: docs.dataset.document,
  domNode: docs,
  requestInterceptor: (request) => {
    request.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf]").content;
    return request;
  },
});
