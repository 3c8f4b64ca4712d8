# The price API's stand-in, for compose: recorded answers whose prices move.
FROM scratch
ARG VERSION REVISION CREATED SOURCE
LABEL org.opencontainers.image.title="Coinduit price API" \
      org.opencontainers.image.description="LiveCoinWatch's API, played from recorded answers" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY price-api /coinduit-price-api
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --retries=3 CMD ["/coinduit-price-api", "health"]
ENTRYPOINT ["/coinduit-price-api"]
