# One small image with the one binary. It runs as nobody in particular, and holds no shell and no package manager.
#
#   docker build -t mailferry .
#   docker run --rm -v "$PWD:/mail" -w /mail --user "$(id -u)" mailferry run -f contoso.yaml --state ./state

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# No history is in here, so the commit must be told: --build-arg MAILFERRY_COMMIT="$(git rev-parse HEAD)".
ARG MAILFERRY_COMMIT=
# The caches outlive the layer, so a second build compiles only what changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin mailferry \
    && cp target/release/mailferry /mailferry

# glibc and the certificate authorities, nothing else; nonroot is user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /mailferry /usr/local/bin/mailferry
# As a number: a kubelet that must not run root cannot judge a name.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/mailferry"]
