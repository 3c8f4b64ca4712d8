# The producer's image: one static binary and the certificate authorities it trusts. `make images` builds both and this.
FROM scratch
ARG VERSION REVISION CREATED SOURCE
LABEL org.opencontainers.image.title="Coinduit producer" \
      org.opencontainers.image.description="Asks a price API for the coins, publishes one record per coin to Kafka, exits" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY producer /producer
USER 65532:65532
# It is one run, which its exit code sums up: there is nothing to ask between start and end.
HEALTHCHECK NONE
ENTRYPOINT ["/producer"]
